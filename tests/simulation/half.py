"""One partition on both sides: what says how it must be, and a look at all that its engine keeps."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.domain.types import Line, Token
from app.store.decoding import decode_lines
from app.store.keys import PartitionKeys
from app.store.state import State
from tests.oracle import Oracle
from tests.oracle_stock import LIVE, Record
from tests.simulation.engine_time import EngineTime

RUN_US_MAX = 3600 * 1_000_000  # how long a run lasts at most, by the engine's real clock


class Divergence(AssertionError):
    """The service and the oracle do not agree."""


def agree(what: str, service: object, oracle: object) -> None:
    if service != oracle:
        raise Divergence(f"{what}\n  service: {service}\n  oracle:  {oracle}")


@dataclass(frozen=True, slots=True)
class Half:
    """One partition, and what says how it must be."""

    keys: PartitionKeys
    secret: bytes
    oracle: Oracle
    time: EngineTime
    forgotten: list[Record] = field(default_factory=list)  # sales: their units stay committed


def check_kept(half: Half, kept: State) -> None:
    """What reservations, places and orders have is as the oracle says, and all of it adds up."""
    _check_retention(half, kept)
    _check_backorders(half, kept)
    _check_conservation(half, kept)
    _check_places(half, kept)
    _check_orders(half, kept)


def _check_retention(half: Half, kept: State) -> None:
    """What has ended will be forgotten in time, which the engine counts in real seconds; nothing else ever is."""
    for token, record in half.oracle.records.items():
        at_us = kept.expires_at_us.get(half.keys.reservation(token))
        agree(f"{record.status} {token} is forgotten one day", at_us is not None, record.kept_until_us is not None)
        if at_us is not None and record.kept_until_us is not None:
            is_in_time = record.kept_until_us - RUN_US_MAX <= at_us <= half.oracle.now_us + record.kept_us
            agree(f"{record.status} {token} is forgotten in time", is_in_time, oracle=True)


def _check_backorders(half: Half, kept: State) -> None:
    for sku, stock in half.oracle.skus.items():
        units, queue = (
            kept.hashes.get(half.keys.backorders(sku), {}),
            kept.zsets.get(half.keys.backorder_queue(sku), {}),
        )
        in_order = [(token, int(units[token])) for token in sorted(queue, key=lambda token: int(queue[token]))]
        agree(f"backorders of {sku}", in_order, [(record.token, left) for record, left in stock.uncovered.items()])


def _check_conservation(half: Half, kept: State) -> None:
    """What reservations have is promised; of an order of which others told, what is still to leave."""
    units = {sku: Counter[str]() for sku in half.oracle.skus}
    told_of = [order for order in half.oracle.orders.values() if order.is_told_by_others]
    followers = {half.keys.reservation(record.token) for order in told_of for record in order.records}
    promises: list[tuple[str, str, Iterable[Line]]] = [(r.channel, r.status, r.lines) for r in half.forgotten]
    promises += [
        (order.channel, "committed", [Line(sku, told.committed) for sku, told in order.lines.items()])
        for order in told_of
    ]
    for key, record in kept.hashes.items():
        if key.startswith(half.keys.reservation(Token(""))):
            is_promised = record["status"] in LIVE or (record["status"] == "committed" and key not in followers)
            if is_promised:
                has = decode_lines(record.get("remaining_lines", record["lines"]).encode())
                promises.append((record["channel"], record["status"], has))
    for channel, status, lines in promises:
        for line in lines:
            pool = "committed" if status == "committed" else "reserved"
            units[line.sku] += Counter({pool: line.quantity, f"promised:{channel}": line.quantity})
    for sku, counted in units.items():
        stock, locations = kept.hashes[half.keys.sku(sku)], kept.hashes.get(half.keys.locations(sku), {})
        places = [name.partition("\t")[2] for name in locations if name.startswith("on_hand\t")]
        shared = [name for name in places if f"kind\t{name}" not in locations]
        counted["on_hand"] = sum(int(locations[f"on_hand\t{name}"]) for name in shared)
        pools = {"on_hand", "reserved", "committed"} | {name for name in stock if name.startswith("promised:")}
        for pool in pools | counted.keys():
            agree(f"{pool} of {sku}", int(stock.get(pool, 0)), counted[pool])


def _check_places(half: Half, kept: State) -> None:
    for sku, stock in half.oracle.skus.items():
        fields = {f"on_hand\t{name}": str(place.on_hand) for name, place in stock.places.items()}
        fields |= {f"kind\t{name}": "dedicated" for name, place in stock.places.items() if not place.is_shared}
        fields |= {
            f"allocated\t{name}": str(place.allocated) for name, place in stock.places.items() if place.allocated
        }
        agree(f"locations of {sku}", kept.hashes.get(half.keys.locations(sku), {}), fields)


def _check_orders(half: Half, kept: State) -> None:
    prefix = half.keys.order("", "").removesuffix("\t")
    found = {key: (order["open"], order["shipped"]) for key, order in kept.hashes.items() if key.startswith(prefix)}
    expected = {}
    for order in half.oracle.orders.values():
        lines = order.lines.values()
        sums = sum(line.committed for line in lines), sum(line.shipped for line in lines)
        expected[half.keys.order(*order.name)] = tuple(map(str, sums))
    agree("orders", found, expected)
