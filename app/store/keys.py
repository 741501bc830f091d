"""Every key of the engine is built here, and nowhere else.

A SKU belongs to partition `crc16(sku) % partitions`. All keys of a partition share one hash tag, so a partition is
one slot of any Redis Cluster; the variable part comes last. DESIGN: docs/adr/0003-partitions-keys-and-tokens.md.
"""

import base64
import binascii
import hmac
import secrets

from app.domain.types import Sku, Token

TOKEN_BYTES = 16
PARTITION_DIGITS_MAX = 4
IDEMPOTENCY_HASH_BYTES = 16
CLUSTER_SLOTS = 16_384
PARTITIONS_MAX = 1024
PREFIX = "lastunit:"


def hash_tag(partition: int, partitions: int) -> str:
    """The smallest number whose slot lies in this partition's equal share of the 16384 slots."""
    first = partition * CLUSTER_SLOTS // partitions
    end = (partition + 1) * CLUSTER_SLOTS // partitions
    number = 0
    while not first <= _crc16(str(number)) % CLUSTER_SLOTS < end:
        number += 1
    return str(number)


class PartitionKeys:
    """The keys of one partition."""

    __slots__ = ("around", "deadlines", "index", "ledger", "meta", "prefix", "readers")

    def __init__(self, partition: int, partitions: int) -> None:
        self.index = partition
        self.prefix = f"{PREFIX}{{{hash_tag(partition, partitions)}}}:"
        self.meta = f"{self.prefix}meta"
        self.ledger = f"{self.prefix}ledger"
        self.deadlines = f"{self.prefix}deadlines"
        self.readers = f"{self.prefix}readers"
        self.around = f"{self.prefix}around:"  # see SourceKeys

    def sku(self, sku: Sku) -> str:
        """Hash: quantities and policy."""
        return f"{self.prefix}sku:{sku}"

    def holds(self, sku: Sku) -> str:
        """Sorted set: token -> deadline in us of the SKU's live reservations."""
        return f"{self.prefix}holds:{sku}"

    def locations(self, sku: Sku) -> str:
        """Hash: what a SKU has at each location; see lua/includes/locations.lua."""
        return f"{self.prefix}locations:{sku}"

    def backorders(self, sku: Sku) -> str:
        """Hash: token -> units promised beyond stock that no stock covers yet."""
        return f"{self.prefix}backorders:{sku}"

    def backorder_queue(self, sku: Sku) -> str:
        """Sorted set: token -> sequence of the promise; the first is covered first."""
        return f"{self.prefix}backorder_queue:{sku}"

    def category(self, category: str) -> str:
        """Hash: the policy of its SKUs where they say nothing themselves."""
        return f"{self.prefix}category:{category}"

    def category_skus(self, category: str) -> str:
        """Sorted set: its SKUs, each with score 0."""
        return f"{self.prefix}category_skus:{category}"

    def facts(self, sku: Sku) -> str:
        """Hash: what the outside said of each of its locations; see lua/includes/facts.lua."""
        return f"{self.prefix}facts:{sku}"

    def account(self, name: str) -> str:
        """Hash: what a caller holds, where that is capped; see lua/includes/account.lua."""
        return f"{self.prefix}{name}"

    def account_holds(self, name: str) -> str:
        """Sorted set: token -> deadline in us of its open reservations."""
        return f"{self.prefix}account_holds:{name}"

    def order(self, channel: str, order_id: str) -> str:
        """Hash: what is known of an order, whoever told it; see lua/includes/orders.lua. Neither id has a TAB."""
        return f"{self.prefix}order:{channel}\t{order_id}"

    def reservation(self, token: Token) -> str:
        """Hash: the record."""
        return f"{self.prefix}reservation:{token}"

    def seen(self, source: str, delivery_id: str) -> str:
        """String: the remembered answer of something applied once."""
        return f"{self.prefix}seen:{source}:{delivery_id}"


class SourceKeys:
    """What stands around the scripts: what is known of the sources, and what of theirs could not be used.

    All in the slot of the first partition, so that one transaction may have several of them. No entry tells of them:
    a replay neither looks at them nor makes them.
    """

    __slots__ = ("_prefix", "breakers", "dead_letter_totals", "dead_letters_done", "drifts")

    def __init__(self, first: PartitionKeys) -> None:
        self._prefix = first.around
        self.dead_letters_done = f"{self._prefix}dead_letters_done"  # sorted set: id -> when it was done, in us
        self.dead_letter_totals = f"{self._prefix}dead_letter_totals"  # hash: how many letters, of how many bytes
        self.breakers = f"{self._prefix}breakers"  # hash: name -> what a person ordered it to be
        self.drifts = f"{self._prefix}drifts"  # stream: what reconciliations found to differ

    def dead_letter(self, letter_id: str) -> str:
        """Hash: what was sent, and why it could not be used."""
        return f"{self._prefix}dead_letter:{letter_id}"

    def dead_letters(self, status: str) -> str:
        """Sorted set: id -> when it was received, in us."""
        return f"{self._prefix}dead_letters:{status}"

    def mapping(self, source: str) -> str:
        """Hash: what a source calls our SKUs and locations; `version` counts its changes."""
        return f"{self._prefix}mapping:{source}"

    def source(self, source: str) -> str:
        """Hash: how it has been going with a source."""
        return f"{self._prefix}source:{source}"

    def counters(self, source: str) -> str:
        """Sorted set: the newest counters of a source, each its own score."""
        return f"{self._prefix}counters:{source}"

    def lease(self, name: str) -> str:
        """String: whose turn it is; gone when that is over."""
        return f"{self._prefix}lease:{name}"

    def imported(self, key_hash: str) -> str:
        """Hash: which file an Idempotency-Key came with, and what was answered."""
        return f"{self._prefix}import:{key_hash}"

    def position(self, source: str, address: str) -> str:
        """String: how far a source has been read at an address."""
        return f"{self._prefix}position:{source}:{address}"


class Keyspace:
    """The partitions, which of them a SKU or a token belongs to, and what stands around them."""

    def __init__(self, partitions: int) -> None:
        self.partitions = tuple(PartitionKeys(index, partitions) for index in range(partitions))
        self.sources = SourceKeys(self.partitions[0])

    def of_sku(self, sku: Sku) -> PartitionKeys:
        """The partition of a SKU."""
        return self.partitions[_crc16(sku) % len(self.partitions)]

    def of_token(self, token: Token) -> tuple[PartitionKeys, ...]:
        """Where to look for a token's record; nowhere when no token of ours looks like this.

        First in the partition it names; after a rebuild with another number of partitions it may be in any.
        """
        number, dash, rest = token.partition("-")
        if (
            not dash
            or len(rest) != TOKEN_CHARS
            or not (number.isascii() and number.isdigit())
            or len(number) > PARTITION_DIGITS_MAX
        ):
            return ()
        if len(self.partitions) == 1:
            return self.partitions
        index = int(number) % len(self.partitions)
        return (self.partitions[index], *self.partitions[:index], *self.partitions[index + 1 :])


def new_token(partition: PartitionKeys) -> Token:
    """A token nobody can guess: the partition's number and 128 random bits."""
    return Token(f"{partition.index}-{_url_safe(secrets.token_bytes(TOKEN_BYTES))}")


def derived_token(partition: PartitionKeys, secret: bytes, *scope: str) -> Token:
    """The token of a request with an Idempotency-Key: HMAC-SHA256 over its scope, cut to 128 bits.

    The same request always names the same record, so the record itself is the remembered answer.
    """
    digest = hmac.digest(secret, "\n".join(scope).encode(), "sha256")
    return Token(f"{partition.index}-{_url_safe(digest[:TOKEN_BYTES])}")


def idempotency_hash(secret: bytes, *scope: str) -> str:
    """What a record remembers an Idempotency-Key by: 128 bits of HMAC-SHA256 over its scope."""
    return _url_safe(hmac.digest(secret, "\n".join(scope).encode(), "sha256")[:IDEMPOTENCY_HASH_BYTES])


def _crc16(text: str) -> int:
    """CRC16-CCITT (XMODEM), the one that Redis Cluster hashes keys with."""
    return binascii.crc_hqx(text.encode(), 0)


def _url_safe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


TOKEN_CHARS = len(_url_safe(bytes(TOKEN_BYTES)))
