"""What the engine keeps of orders, and of the reservations sold into them."""

from collections import Counter

from app.domain.orders import Departure, OrderLine
from tests.scripts.partition import Partition

TOKEN, OTHER = "0-" + "t" * 22, "0-" + "o" * 22


def committed(partition: Partition) -> Counter[str]:
    """By SKU, from the records of orders and sales; an order's own sums are proved on the way."""
    units = Counter(dict.fromkeys("AB", 0))
    for key in partition.client.scan_iter(match=f"{partition.keys.prefix}order:*"):
        fields = {name.decode(): text.decode() for name, text in partition.client.hgetall(key).items()}
        lines = {
            name.removeprefix("line\t"): line_of(text) for name, text in fields.items() if name.startswith("line\t")
        }
        for sku, line in lines.items():
            assert line.reckon().changes == [], "each departure is stored with what of it counts"
            units[sku] += line.part
        totals = sum(line.part for line in lines.values()), sum(line.shipped for line in lines.values())
        assert totals == (int(fields["open"]), int(fields["shipped"]))
    for key in partition.client.scan_iter(match=f"{partition.keys.prefix}reservation:*"):
        record = {name.decode(): text.decode() for name, text in partition.client.hgetall(key).items()}
        if record["status"] == "committed" and "order_id" not in record and "has_order" not in record:
            for row in (record.get("remaining_lines") or record["lines"]).splitlines():
                sku, quantity, _ = row.split("\t")
                units[sku] += int(quantity)
    return units


def line_of(text: str) -> OrderLine:
    """A line of an order as its record has it."""
    line = OrderLine()
    for row in text.splitlines():
        tag, *words = row.split("\t")
        if tag == "told":
            line.told[words[0], words[1]] = int(words[2])
        else:
            effective, quantity, priority, is_ship, occurred_us, system, counter, source, location, of = words
            line.departures.append(Departure(
                int(quantity), int(priority), is_ship == "1", int(occurred_us), system, int(counter), source, location,
                of, int(effective),
            ))  # fmt: skip
    return line


def state(partition: Partition, token: str = TOKEN) -> tuple[str, str]:
    """Of a reservation: its status and what is left of its lines."""
    reply = partition("read", token=token)
    lines = (row.split("\t") for row in reply.lines.splitlines())
    return reply.state, " ".join(f"{sku}{quantity}" for sku, quantity, _ in lines)


def orders(partition: Partition) -> dict[str, tuple[int, int]]:
    """Units to ship and shipped of every order, by its id."""
    found = {}
    for key in partition.client.scan_iter(match=f"{partition.keys.prefix}order:direct*"):
        still_open, shipped = partition.client.hmget(key, "open", "shipped")
        found[key.decode().partition("\t")[2]] = int(still_open), int(shipped)
    return found
