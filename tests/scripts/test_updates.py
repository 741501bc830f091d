"""A delivery, line by line: what becomes of each, once; and what is no line at all."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from app.domain.types import Sku
from app.domain.updates import StockUpdate, UpdateStatus
from tests.scripts.deliveries import deliver, head_of, lines_of, say
from tests.scripts.partition import SCRIPTS, Partition
from tests.scripts.test_arguments import NO_INTEGERS, refused

UNITS_MAX = 10**12
EVENTS_MAX = 64
LINES_MAX = 50
NOBODYS = "0-" + "x" * 22


def twice(partition: Partition) -> str:
    partition.update("receive", delivery_id="d")
    return partition.update("receive", delivery_id="d")


def counted_before(partition: Partition) -> str:
    partition.update("count", 5)
    return partition.update("count", 4, at=0)


def at_one_location_too_many(partition: Partition) -> str:
    for number in range(200):
        partition.update("receive", location=f"l{number}")
    return partition.update("receive", location="one too many")


def of_an_order_with_every_event(partition: Partition) -> str:
    partition.stock("A")
    for _ in range(EVENTS_MAX):
        partition.update("ship", order="o")
    return partition.update("ship", order="o")


def with_stock(kind: str, quantity: int = 1, *, order: str | None = None) -> Callable[[Partition], str]:
    def scene(partition: Partition) -> str:
        partition.stock("A")
        return partition.update(kind, quantity, order=order)

    return scene


SCENES: dict[UpdateStatus, Callable[[Partition], str]] = {
    UpdateStatus.APPLIED: with_stock("receive"),
    UpdateStatus.DUPLICATE: twice,
    UpdateStatus.STALE: counted_before,
    UpdateStatus.UNKNOWN_SKU: lambda partition: partition.update("return"),
    UpdateStatus.UNKNOWN_REFERENCE: with_stock("pick", order=NOBODYS),
    UpdateStatus.TOO_MANY_LOCATIONS: at_one_location_too_many,
    UpdateStatus.TOO_MANY_EVENTS: of_an_order_with_every_event,
    UpdateStatus.ABOVE_LIMIT: with_stock("receive", UNITS_MAX),
}


@pytest.mark.parametrize("status", UpdateStatus)
def test_what_becomes_of_a_line(partition: Partition, status: UpdateStatus) -> None:
    assert SCENES[status](partition) == status


class TestOnce:
    def test_a_line_is_applied_once_and_its_entry_is_remembered(self, partition: Partition) -> None:
        delivery = deliver(say("receive", 3, at=1), say("receive", 4, at=1, sku="B", number=1))
        first = partition.apply(delivery)
        assert first.lines_told == [("applied", 1), ("applied", 2)]
        before = partition.snapshot()
        assert partition.apply(delivery).lines_told == [("duplicate", 1), ("duplicate", 2)]
        assert partition.snapshot() == before
        assert partition.balances("A")[0] == 3

    def test_the_last_entry_of_its_command_is_remembered(self, partition: Partition) -> None:
        partition.stock("A", 2)
        partition.hold("A", 1)
        partition.hold("A", 1)
        assert partition.apply(deliver(say("count", 0, at=1))).lines_told == [("applied", 6)]
        assert partition.apply(deliver(say("count", 0, at=1))).lines_told == [("duplicate", 6)]

    def test_a_line_that_could_not_be_applied_is_taken_up_again_and_no_other(self, partition: Partition) -> None:
        partition.stock("A", 1)
        delivery = deliver(say("return", 1, at=1), say("return", 1, at=1, sku="B", number=1))
        assert partition.apply(delivery).lines_told == [("applied", 2), ("unknown_sku", 0)]
        partition.stock("B", 1)
        assert partition.apply(delivery).lines_told == [("duplicate", 2), ("applied", 4)]
        assert partition.balances("A")[0] == partition.balances("B")[0] == 2

    def test_a_number_is_another_one_than_that_which_ends_like_it(self, partition: Partition) -> None:
        partition.apply(deliver(say("receive", 1, at=1, number=11)))
        assert partition.apply(deliver(say("receive", 1, at=1, number=1))).lines_told == [("applied", 2)]

    def test_the_same_id_of_another_source_is_another_delivery(self, partition: Partition) -> None:
        assert [partition.update("receive", source=source, delivery_id="d") for source in ("wms", "erp")] == [
            "applied",
            "applied",
        ]

    def test_it_is_remembered_for_a_week(self, partition: Partition) -> None:
        partition.update("receive", delivery_id="d")
        assert 0 < partition.client.pttl(partition.keys.seen("wms", "d")) <= 7 * 24 * 3600 * 1000

    def test_what_is_polled_is_not_remembered(self, partition: Partition) -> None:
        """It says the same each time, and its clock knows that."""
        count = say("count", 5, at=1)
        assert partition.apply(deliver(count, delivery_id="")).lines_told == [("applied", 1)]
        assert partition.apply(deliver(count, delivery_id="")).lines_told == [("stale", 0)]
        assert not list(partition.client.scan_iter(match="*:seen:*"))


class TestMayCreate:
    @pytest.mark.parametrize("kind", ["receive", "count"])
    def test_what_is_there_may_be_of_a_new_sku(self, partition: Partition, kind: str) -> None:
        line = say(kind, 5, at=1)
        assert partition.apply(deliver(line, may_create=False)).lines_told == [("unknown_sku", 0)]
        assert partition.client.exists(partition.keys.sku(Sku("A"))) == 0
        assert partition.apply(deliver(line)).lines_told == [("applied", 1)]
        assert partition.balances("A") == (5, 0, 0, 0)

    @pytest.mark.parametrize("kind", ["return", "adjust", "transfer", "sale", "ship", "observe"])
    def test_what_it_was_may_not(self, partition: Partition, kind: str) -> None:
        assert partition.update(kind, to="east" if kind == "transfer" else None) == "unknown_sku"


def test_a_loss_beyond_the_bound_of_a_call_leaves_the_later_lines_to_the_next(partition: Partition) -> None:
    partition.stock("A", 201)
    tokens = partition.hold_many(201)
    delivery = deliver(say("count", 0, at=1), say("receive", 1, at=1, sku="B", number=1))
    reply = partition.apply(delivery)
    assert (reply.status, len(reply.lines_told)) == ("voiding", 1)
    assert partition("close_shortfall").status == "closed"
    assert {partition.record(token)["status"] for token in tokens} == {"voided"}
    reply = partition.apply(delivery)
    assert (reply.status, [status for status, _ in reply.lines_told]) == ("done", ["duplicate", "applied"])


FIELDS = (
    "number", "kind", "sku", "location", "location_kind", "to_location", "to_location_kind", "quantity", "occurred_us",
    "system", "counter", "clock", "channel", "reference_kind", "reference", "details",
)  # fmt: skip
INTEGERS = [text for text in NO_INTEGERS if "\t" not in text]
MALFORMED = {
    "number": (*INTEGERS, "-1"),
    "kind": ("", "x", "COUNT", "receive "),
    "sku": ("", "A\n", "A\x00"),
    "location": ("", "ma\nin"),
    "location_kind": ("", "x", "shared "),
    "quantity": (*INTEGERS, "-1", "-", str(UNITS_MAX + 1)),
    "occurred_us": (*INTEGERS, "-1"),
    "system": ("", "erp", "w\nms"),
    "counter": (*INTEGERS, "-1", "2"),
    "clock": (
        "", "wms", "wms\n", "wms\n1\n", "wms\nx", "wms\n-1", f"wms\n{2**53}", "wms\nnan", "erp\n1", "wms\n2",
        "wms\n1\nwms\n1", "wms\n1\nerp\n1", "erp\n1\n\nwms\n1", "\n1\nwms\n1",
        "\n".join(f"s{number:02}\n1" for number in range(16)) + "\nwms\n1",
    ),
    "channel": ("", "di\nrect"),
    "reference_kind": ("token", "order", "x"),
    "reference": ("o",),
    "details": ("", "{}\n"),
}  # fmt: skip


def line_with(update: StockUpdate, **fields: object) -> str:
    """The line, some of its fields replaced."""
    (line,) = lines_of(deliver(update))
    return "\t".join(str(fields.get(name, text)) for name, text in zip(FIELDS, line.split("\t"), strict=True))


class TestMalformed:
    @pytest.mark.parametrize("name", MALFORMED)
    def test_fields(self, partition: Partition, name: str) -> None:
        """Found before anything of the line before it is applied."""
        good, line = say("receive", 1, at=1), say("receive", 1, at=1, number=1)
        for value in MALFORMED[name]:
            refused(partition, "apply_update", (line_with(good), line_with(line, **{name: value})), {})
        assert partition("apply_update", line_with(good), line_with(line)).status == "done"

    @pytest.mark.parametrize(
        ("kind", "least"),
        [(kind, 0 if kind in ("count", "observe") else -UNITS_MAX if kind == "adjust" else 1) for kind in (
            "receive", "return", "adjust", "count", "transfer", "sale", "pick", "pack", "ship", "cancel", "observe",
        )],
    )  # fmt: skip
    def test_fewer_units_than_can_be(self, partition: Partition, kind: str, least: int) -> None:
        partition.stock("A", 1)
        update = say(kind, 1, at=1, order="o", to="east" if kind == "transfer" else None)
        refused(partition, "apply_update", (line_with(update, quantity=least - 1),), {})
        reply = partition.apply(deliver(replace(update, quantity=least)))
        assert reply.lines_told[0][0] == "applied"

    def test_a_line_has_its_fields_and_no_others(self, partition: Partition) -> None:
        line = line_with(say("receive", 1, at=1))
        for wrong in ("", "0", line.rpartition("\t")[0], f"{line}\t", line.replace("\t", " ")):
            refused(partition, "apply_update", (wrong,), {})

    def test_where_to(self, partition: Partition) -> None:
        update = say("transfer", 1, at=1, to="east")
        for field, value in (("to_location", ""), ("to_location_kind", ""), ("to_location_kind", "x")):
            refused(partition, "apply_update", (line_with(update, **{field: value}),), {})

    def test_a_reference_is_of_its_kind(self, partition: Partition) -> None:
        update = say("ship", 1, at=1, order="o")
        for fields in ({"reference": ""}, {"reference_kind": ""}, {"reference_kind": "x"}):
            refused(partition, "apply_update", (line_with(update, **fields),), {})

    def test_1_to_50_lines_with_three_keys_each(self, partition: Partition) -> None:
        refused(partition, "apply_update", (), {})
        lines = [line_with(say("receive", 1, at=1, number=number % 5)) for number in range(LINES_MAX + 1)]
        refused(partition, "apply_update", tuple(lines), {})
        keys, args = partition.wire("apply_update", *lines[:2])
        for wrong in (keys[:-1], keys[:-3], [*keys, keys[-1]]):
            with pytest.raises(ResponseError, match=r"^BADARG"):
                partition.raw(SCRIPTS["apply_update"], wrong, args)
        assert len(partition("apply_update", *lines[:LINES_MAX]).lines_told) == LINES_MAX

    @pytest.mark.parametrize("given", [{"source": ""}, {"source": "w\tms"}, {"delivery_id": "d\n"}])
    def test_who_says_it(self, partition: Partition, given: dict[str, object]) -> None:
        refused(partition, "apply_update", (line_with(say("receive", 1, at=1)),), given)

    @pytest.mark.parametrize("kind", ["receive", "adjust", "transfer", "sale", "ship", "cancel"])
    def test_what_may_come_twice_is_a_count_or_an_observation(self, partition: Partition, kind: str) -> None:
        """What counts once must have the id of its delivery."""
        delivery = deliver(say(kind, 1, at=1, order="o", to="east"), delivery_id="")
        refused(partition, "apply_update", lines_of(delivery), head_of(delivery))
