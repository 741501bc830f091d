"""Calls the scripts as the wire sees them: every KEYS and ARGV by its name, those that matter to a test given by it."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from app.domain.types import Sku, Token
from app.domain.updates import Delivery
from app.store.clock import EngineClock
from app.store.keys import Keyspace
from app.store.scripts import Script, load_scripts
from tests.scripts.deliveries import deliver, head_of, lines_of, say
from tests.virtual_clock import REPLACED_INCLUDES, SECOND_US, VirtualClock

SCRIPTS = load_scripts(REPLACED_INCLUDES)
TIMEOUT_US = 2 * SECOND_US
TTL_US = 10 * SECOND_US
CATEGORY = "flowers"
DAY_MS = 24 * 3600 * 1000
DEFAULTS: dict[str, object] = {
    "account": "agent:agent",
    "agent": "agent",
    "allow_backorder": 0,
    "amount": 10,
    "amount_us": TTL_US,
    "authorities": "main\terp",
    "caps": "",
    "channel": "direct",
    "claim": "",
    "committed_retention_ms": 30 * DAY_MS,
    "counted_from": "now",
    "deduct_on": "ship",
    "delivery_id": "d",
    "entries_kept": 1000,
    "expected_sequence": "",
    "fingerprint": "",
    "from_location": "main",
    "holder": "",
    "key_hash": "",
    "location": "main",
    "location_kind": "shared",
    "max_lifetime_us": 3600 * SECOND_US,
    "may_create": 1,
    "mode": "delta",
    "order_id": "",
    "partition": 0,
    "partitions": 1,
    "priority": 3,
    "quantity": 1,
    "reader": "archive",
    "reason": "test",
    "retention_ms": DAY_MS,
    "schema_version": 2,
    "secret": "s" * 64,
    "seen_retention_ms": 7 * DAY_MS,
    "sequence": 0,
    "sequence_seen": 0,
    "sku": "A",
    "source": "wms",
    "take_clock": 1,
    "to_location": "east",
    "to_location_kind": "shared",
    "token": "t",
    "ttl_us": TTL_US,
}
DEFAULTS_OF: dict[str, dict[str, object]] = {"import_stock": {"mode": "apply"}}


class Reply:
    """A reply, its fields as text by the names of the script's header."""

    def __init__(self, fields: tuple[str, ...], values: list[bytes]) -> None:
        assert len(values) == len(fields), "a reply has fixed arity"
        self._values = dict(zip(fields, (value.decode() for value in values), strict=True))

    def __getattr__(self, name: str) -> str:
        return self._values[name]

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self._values)

    def __repr__(self) -> str:
        return f"Reply({self._values})"

    @property
    def lines_told(self) -> list[tuple[str, int]]:
        """Of a delivery: what became of each line, and the last entry of its command."""
        rows = (row.split("\t") for row in self.results.split("\n") if row)
        return [(status, int(sequence)) for _, status, sequence in rows]

    @property
    def places(self) -> dict[str, tuple[str, int, int]]:
        """Of a reply about a SKU: the kind of each location, what is on hand there, and what of it is allocated."""
        rows = (row.split("\t") for row in self.locations.split("\n") if row)
        return {name: (kind, int(on_hand), int(allocated)) for name, kind, on_hand, allocated in rows}

    def same_as(self, other: "Reply", *, but: tuple[str, ...] = ()) -> bool:
        """Whether both say the same, in all fields but these."""
        return all(other._values[name] == text for name, text in self._values.items() if name not in but)


class Partition:
    """The one partition of an engine in virtual time."""

    def __init__(self, client: Redis, clock: VirtualClock) -> None:
        self.client: Any = client  # redis-py's own types are of both its clients at once
        self.clock = clock
        self.gateway = EngineClock()
        self.keys = Keyspace(1).partitions[0]
        self.is_damaged_on_purpose = False
        self._tokens = (f"t{number}" for number in itertools.count(1))
        self._moments = itertools.count(1)
        clock.gateways.append(self.gateway)

    def __call__(self, name: str, *rest: object, **given: object) -> Reply:
        """The reply of a script; `rest` are the repeated arguments, `given` replaces defaults by name."""
        script = SCRIPTS[name]
        wire_keys, wire_args = self.wire(name, *rest, **given)
        reply = Reply(script.reply, self.raw(script, wire_keys, wire_args))
        assert reply.status in script.statuses, f"{name} declares no {reply.status}"
        if "now_us" in reply.fields:
            self.gateway.hear(int(reply.now_us))
        return reply

    def wire(self, name: str, *rest: object, **given: object) -> tuple[list[str], list[str]]:
        """The KEYS and ARGV of a call."""
        script = SCRIPTS[name]
        not_after_us = self.gateway.now_us() + TIMEOUT_US
        named = {**DEFAULTS, **DEFAULTS_OF.get(name, {}), "not_after_us": not_after_us, **given}
        named.setdefault("details", _details(name, rest, named))
        keys = [self.key(key, named) for key in script.keys]
        if script.repeated_keys:
            is_delivery = name == "apply_update"
            skus = [_sku_of(line) for line in rest] if is_delivery else rest[:: len(script.repeated_args)]
            keys += [self.key(key, {**named, "sku": sku}) for sku in skus for key in script.repeated_keys]
        assert all(name in (*DEFAULTS, "not_after_us", "details") for name in given), given
        return keys, [str(named[arg]) for arg in script.args] + [str(value) for value in rest]

    def raw(self, script: Script, keys: list[str], args: list[str]) -> list[bytes]:
        try:
            reply: list[bytes] = self.client.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            self.client.script_load(script.source)
            reply = self.client.evalsha(script.sha, len(keys), *keys, *args)
        return reply

    def key(self, name: str, named: Mapping[str, object] = DEFAULTS) -> str:
        """The key that a script's header calls by this name."""
        sku, token = Sku(str(named["sku"])), Token(str(named["token"]))
        key_hash, delivery_id = str(named["key_hash"]), str(named.get("delivery_id", ""))
        seen = ("adjustment", key_hash) if key_hash else (str(named.get("source", "")), delivery_id)
        found: dict[str, str] = {
            "meta": self.keys.meta,
            "ledger": self.keys.ledger,
            "deadlines": self.keys.deadlines,
            "sku": self.keys.sku(sku),
            "holds": self.keys.holds(sku),
            "locations": self.keys.locations(sku),
            "facts": self.keys.facts(sku),
            "reservation": self.keys.reservation(token),
            "backorders": self.keys.backorders(sku),
            "backorder_queue": self.keys.backorder_queue(sku),
            "category": self.keys.category(CATEGORY),
            "category_skus": self.keys.category_skus(CATEGORY),
            "readers": self.keys.readers,
            "seen": self.keys.seen(*seen),
        }
        return found[name]

    def open(self, **given: object) -> Reply:
        return self("open_partition", **given)

    def stock(self, sku: str, amount: int = 10, **policy: object) -> Reply:
        """Puts units of a SKU on hand, under this policy."""
        if policy:
            self("put_sku", *(text for pair in policy.items() for text in pair), sku=sku)
        return self("adjust", sku=sku, amount=amount)

    def hold(self, *lines: object, **given: object) -> str:
        """A reservation of these lines; its token."""
        token = str(given.pop("token", "")) or next(self._tokens)
        reply = self("reserve", *lines, token=token, **given)
        assert reply.status == "held", reply
        return token

    def hold_many(self, count: int, sku: str = "A", **given: object) -> list[str]:
        """So many reservations of one unit, in a few writes; their tokens."""
        sha = self.client.script_load(SCRIPTS["reserve"].source)
        pipeline = self.client.pipeline(transaction=False)
        tokens = [next(self._tokens) for _ in range(count)]
        for token in tokens:
            keys, args = self.wire("reserve", sku, 1, token=token, **given)
            pipeline.evalsha(sha, len(keys), *keys, *args)
        assert {answer[0] for answer in pipeline.execute()} == {b"held"}
        return tokens

    def sell(self, *lines: object, order_id: str = "", **given: object) -> str:
        """The same, sold; its token."""
        token = self.hold(*lines, **given)
        assert self("commit", token=token, order_id=order_id).status == "committed"
        return token

    def update(self, kind: str, quantity: int = 1, *, delivery_id: str | None = None, **told: Any) -> str:
        """What becomes of a line that a source says, all of a delivery. Each is later than the one before."""
        at = next(self._moments)
        source = told.get("source", "wms")
        update = say(kind, quantity, **{"at": at, **told})
        delivery = deliver(update, source=source, delivery_id=f"d{at}" if delivery_id is None else delivery_id)
        ((status, _),) = self.apply(delivery).lines_told
        return status

    def apply(self, delivery: Delivery) -> Reply:
        """The reply to all of a delivery at once."""
        return self("apply_update", *lines_of(delivery), **head_of(delivery))

    def balances(self, sku: str) -> tuple[int, int, int, int]:
        """On hand, reserved, committed, backordered."""
        values = self.client.hmget(self.keys.sku(Sku(sku)), "on_hand", "reserved", "committed", "backordered")
        on_hand, reserved, committed, backordered = (int(value) for value in values)
        return on_hand, reserved, committed, backordered

    def backorders(self, sku: str) -> dict[str, int]:
        """Units of each reservation that no stock covers yet, the oldest promise first."""
        named = {"sku": sku, "token": "", "key_hash": ""}
        units = self.client.hgetall(self.key("backorders", named))
        queue = self.client.zrange(self.key("backorder_queue", named), 0, -1)
        assert set(units) == set(queue), "the queue has those that wait, no others"
        return {token.decode(): int(units[token]) for token in queue}

    def locations(self, sku: str) -> dict[str, str]:
        """Fields of the SKU's locations hash, their TABs as blanks."""
        fields = self.client.hgetall(self.keys.locations(Sku(sku)))
        return {name.decode().replace("\t", " "): text.decode() for name, text in fields.items()}

    def record(self, token: str) -> dict[str, str]:
        fields = self.client.hgetall(self.keys.reservation(Token(token)))
        return {name.decode(): text.decode() for name, text in fields.items()}

    def ttl_ms(self, token: str) -> int:
        """Of the record; -1: it stays."""
        ttl_ms: int = self.client.pttl(self.keys.reservation(Token(token)))
        return ttl_ms

    def entries(self, after: int = 0) -> list[dict[str, str]]:
        """The ledger's entries, their sequence among the fields."""
        page = self.client.xrange(self.keys.ledger, min=f"({after}")
        return [
            {"sequence": entry_id.decode().removesuffix("-0"), **{k.decode(): v.decode() for k, v in fields.items()}}
            for entry_id, fields in page
        ]

    def told(self, after: int) -> list[tuple[str, ...]]:
        """Of the entries since: what happened to how many units of which SKU, and in whose name."""
        names = ("type", "sku", "quantity", "token")
        return [tuple(entry.get(name, "") for name in names) for entry in self.entries(after)]

    @property
    def sequence(self) -> int:
        return int(self.client.hget(self.keys.meta, "sequence") or 0)

    def snapshot(self) -> dict[bytes, Any]:
        """Every key of the partition, byte for byte, and whether it expires."""
        found = sorted(self.client.scan_iter(match=f"{self.keys.prefix}*", count=1000))
        asking = self.client.pipeline(transaction=False)
        for key in found:
            asking.dump(key)
            asking.pttl(key)
        answers = asking.execute()
        expires = (ttl_ms >= 0 for ttl_ms in answers[1::2])
        return dict(zip(found, zip(answers[::2], expires, strict=True), strict=True))


def _sku_of(line: object) -> str:
    """Of a line of a delivery; of none that is whole, any."""
    return (*str(line).split("\t"), "", "", "A")[2] or "A"


def _details(name: str, rest: tuple[object, ...], named: Mapping[str, object]) -> str:
    """What the service would put there."""
    kept: dict[str, object] = {}
    if name == "commit" and named["order_id"]:
        kept["order_id"] = named["order_id"]
    if name == "put_category":
        kept["category"] = CATEGORY
    if name == "allocate":
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=False)
        kept["allocations"] = [[sku, location, quantity] for sku, location, quantity in triples]
    if name in ("put_sku", "put_category"):
        kept["policy"] = {str(field): str(value) for field, value in zip(rest[::2], rest[1::2], strict=False)}
    if named["key_hash"] and name != "reserve":
        kept["key"] = named["key_hash"]
    if named["fingerprint"]:
        kept["fingerprint"] = named["fingerprint"]
    return json.dumps(kept, separators=(",", ":")) if kept else ""
