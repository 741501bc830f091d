"""An engine as deploy/engine has it: over TLS alone, its default user off, ours with the least rights."""

import asyncio
import re
import secrets
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis import Redis

from tests.engines import installed

DEPLOY = Path(__file__).parents[1] / "deploy" / "engine"
HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Secured:
    """A running engine. `admin` is a client that may do everything, on a socket beside."""

    name: str
    port: int
    password: str
    authority: Path
    stranger: Path  # an authority that has signed nothing here
    admin: Redis

    def url(self, *, host: str = HOST, user: str = "lastunit", authority: Path | None = None) -> str:
        """What `redis_url` is set to."""
        named = f"?ssl_ca_certs={authority or self.authority}"
        return f"rediss://{user}:{self.password}@{host}:{self.port}/0{named}"


@contextmanager
def secured(name: str, folder: Path) -> Iterator[Secured]:
    """Started with the files that are deployed. An engine that was built without TLS has it before it."""
    _write_certificates(folder)
    password = secrets.token_urlsafe(32)
    users = (DEPLOY / "users.acl").read_text()
    digest = sha256(password.encode()).hexdigest()
    users = users.replace("user lastunit on", f"user lastunit on #{digest}")
    (folder / "users.acl").write_text(f"{users}user admin on nopass allkeys allchannels allcommands\n")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = re.sub("^tls-port .+$", f"tls-port {port}", (DEPLOY / "engine.conf").read_text(), flags=re.MULTILINE)
    config += f"bind 127.0.0.1\nunixsocket {folder / 's'}\n"
    process, said = _start(name, config, folder)
    stack = ExitStack()
    if process.poll() is not None:
        assert b"TLS" in said, said.decode()
        process, said = _start(name, re.sub("^tls-.+$", "", config, flags=re.MULTILINE), folder)
        assert process.poll() is None, said.decode()
        portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(portal.wrap_async_context_manager(_tls_before(folder / "s", port, folder)))
    try:
        with (
            stack,
            Redis(unix_socket_path=str(folder / "s"), username="admin", password="any", protocol=2) as admin,
        ):
            yield Secured(name, port, password, folder / "ca.pem", folder / "stranger.pem", admin)
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def _start(name: str, config: str, folder: Path) -> tuple["subprocess.Popen[bytes]", bytes]:
    """A process that serves, or has ended; and what it said."""
    (folder / "engine.conf").write_text(config)
    shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
    process = subprocess.Popen([installed()[name], "engine.conf"], cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout
    said = b""
    for line in process.stdout:
        said += line
        if b"eady to accept connections" in line:
            return process, said
    process.wait()
    process.stdout.close()
    return process, said


@asynccontextmanager
async def _tls_before(path: Path, port: int, folder: Path) -> AsyncIterator[None]:
    """Takes TLS off what comes to this port, and hands it to the socket at this path."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "engine.pem", folder / "engine.key")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        with suppress(asyncio.CancelledError):  # it is over
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        for each in (writer, inner_writer):
            each.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=context):
        yield


def _write_certificates(folder: Path) -> None:
    """An authority, what it says of `localhost`, and another authority."""
    authority, key = _certificate("an authority")
    (folder / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    (folder / "stranger.pem").write_bytes(_certificate("a stranger")[0].public_bytes(Encoding.PEM))
    certificate, own_key = _certificate(HOST, signed_by=(authority, key))
    (folder / "engine.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "engine.key").write_bytes(private)


Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _certificate(name: str, *, signed_by: Signer | None = None) -> Signer:
    """Of an authority that vouches for itself, or of a host that one vouches for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuer_key = (signed_by[0].subject, signed_by[1]) if signed_by else (subject, key)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
    if signed_by:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(issuer_key, SHA256()), key
