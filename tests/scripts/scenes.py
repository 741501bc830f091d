"""For every script a partition in which it has work to do, and the call that does it."""

from tests.scripts.partition import TTL_US, Partition

VERBS = ("cancel", "commit", "extend", "payment", "read", "release")
READERS = ("availability", "read")
KEYED = ("adjust", "cancel", "commit", "extend", "payment", "release", "reserve")
BASKET = ("A", 2, "B", 1)

Call = tuple[tuple[object, ...], dict[str, object]]


def prepare(partition: Partition, name: str, *, is_keyed: bool = True) -> Call:
    """The repeated arguments and the named ones of a call of `name` that succeeds now and changes something.

    A and B are in stock; verbs are about the token `t`, a basket of both.
    """
    partition.stock("A", 10)
    partition.stock("B", 10)
    if name in VERBS or name == "expire":
        partition("reserve", *BASKET, token="t")
    if name == "cancel":
        partition("commit", token="t")
    if name == "expire":
        partition.clock.advance_us(TTL_US)
    rest: dict[str, tuple[object, ...]] = {
        "reserve": BASKET,
        "put_sku": ("backorder_limit", 3, "max_quantity_per_reservation", 4, "variant_group", "shirts"),
        "commit": ("A", 1),
        "cancel": ("A", 1),
    }
    keyed: dict[str, object] = {"key_hash": "k", "fingerprint": "f"} if is_keyed and name in KEYED else {}
    return rest.get(name, ()), keyed
