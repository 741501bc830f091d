"""What the service says of itself in /openapi.json, held against how it answers thousands of generated requests."""

import random
import re
import secrets
import subprocess
import sys
from pathlib import Path

from tests.gateway import done
from tests.keys import key_row, write_keys
from tests.service import Service, open_home
from tests.webhooks import SOURCES

EXAMPLES_MAX, EXAMPLES_GUARDED_MAX = 5, 2
# Whoever forces the engine's breaker open is told 503 from then on; tests/integration/test_degraded.py does.
LEFT_OUT = ("--exclude-path", "/inventory/v1/admin/breakers/{name}")
CHECKS_LEFT_OUT = (
    "positive_data_acceptance",  # rules between fields are said in words, not in the schema
    "use_after_free",  # DELETE releases a reservation, whose record stays to be read
)


def test_the_document_is_true(service: Service, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, no answer or header that is unlike its description."""
    ask_everything(service, tmp_path, examples_max=EXAMPLES_MAX)


def test_the_document_is_true_where_there_are_keys(tmp_path: Path) -> None:
    """Likewise; and without a key, or with one that is none, no call that needs one is anything but 401."""
    key = secrets.token_urlsafe(32)
    path = tmp_path / "keys.json"
    write_keys(path, key_row(key, "operator", "operator"))
    with open_home(is_archived=True) as home:
        service = home.serve(api_keys_file=path, sources=SOURCES)
        home.await_archive()
        ask_everything(service, tmp_path, "--header", f"Authorization: Bearer {key}", examples_max=EXAMPLES_GUARDED_MAX)


def ask_everything(service: Service, folder: Path, *options: str, examples_max: int) -> None:
    seed = random.randrange(2**32)
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{service.gateway.address}/openapi.json", "--seed", str(seed),
        "--max-examples", str(examples_max), "--exclude-checks", ",".join(CHECKS_LEFT_OUT), "--warnings", "off",
        "--no-color", *LEFT_OUT, *options,
    ]  # fmt: skip
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    operations = -1 + sum(len(methods) for methods in done(service.gateway.get("/openapi.json"))["paths"].values())
    assert re.search(rf"Tested: {operations}\n", run.stdout), "every other operation, and not one of them skipped"
    assert "request_failed" not in service.home.stderr
