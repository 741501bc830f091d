"""For every script a partition in which it has work to do, and the call that does it."""

from tests.scripts.deliveries import deliver, lines_of, say
from tests.scripts.partition import CATEGORY, TTL_US, Partition

VERBS = ("allocate", "cancel", "commit", "extend", "payment", "read", "release")
OF_A_SALE = ("allocate", "cancel")
READERS = ("availability", "read")
KEYED = ("adjust", "allocate", "cancel", "commit", "extend", "payment", "release", "reserve", "transfer")
BASKET = ("A", 2, "B", 1)
UNTIMED = ("acknowledge", "open_partition")  # neither has a not-after time

Call = tuple[tuple[object, ...], dict[str, object]]

WORK: dict[str, tuple[object, ...]] = {
    "allocate": ("A", "main", 2),
    "apply_update": lines_of(deliver(say("receive", 3, at=1), say("receive", 4, sku="B", at=2, number=1))),
    "cancel": ("A", 1),
    "commit": ("A", 1),
    "import_stock": ("A", "main", "shared", 7, ""),
    "put_category": ("backorder_limit", 3),
    "put_sku": ("backorder_limit", 3, "max_quantity_per_reservation", 4, "category", CATEGORY),
    "reconcile": ("A",),
    "reserve": BASKET,
}


def prepare(partition: Partition, name: str, *, is_keyed: bool = True) -> Call:
    """The repeated arguments and the named ones of a call of `name` that succeeds now and changes something.

    A and B are in stock; verbs are about the token `t`, a basket of both.
    """
    partition.stock("A", 10)
    partition.stock("B", 10)
    if name in VERBS or name == "expire":
        partition("reserve", *BASKET, token="t")
    if name in OF_A_SALE:
        partition("commit", token="t")
    if name == "expire":
        partition.clock.advance_us(TTL_US)
    if name == "close_shortfall":
        leave_a_shortfall(partition)
    if name == "reconcile":  # the authority is not who is believed
        partition.update("count", 5, source="erp")
        partition.update("count", 7)
    keyed: dict[str, object] = {"key_hash": "k", "fingerprint": "f"} if is_keyed and name in KEYED else {}
    return WORK.get(name, ()), keyed


def leave_a_shortfall(partition: Partition) -> None:
    """Takes all of A away, when more is held than one call may void: what is left is `t`, a basket."""
    partition("reserve", *BASKET, token="t")
    partition("adjust", amount=200)
    partition.hold_many(199)
    assert partition("adjust", mode="count", amount=0).status == "voiding"
