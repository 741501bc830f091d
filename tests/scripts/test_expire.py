"""expire and read: what is due ends, whoever looks first, and only once."""

from tests.scripts.partition import DAY_MS, TTL_US, Partition
from tests.virtual_clock import SECOND_US


def test_expire_settles_what_is_due_and_says_when_to_come_again(partition: Partition) -> None:
    partition.stock("A", 5)
    partition.stock("B", 5)
    due, later = partition.hold("A", 2, "B", 1), partition.hold("B", 1, ttl_us=TTL_US + 1)
    reply = partition("expire")
    assert (reply.status, reply.settled_lines) == ("swept", "0")
    assert reply.next_deadline_us == str(partition.clock.now_us + TTL_US)
    partition.clock.advance_us(TTL_US)
    reply = partition("expire")
    assert (reply.status, reply.settled_lines) == ("swept", "2")
    assert reply.next_deadline_us == str(partition.clock.now_us + 1)
    assert partition.record(due)["status"] == "expired"
    assert partition.record(later)["status"] == "held"
    assert 0 < partition.ttl_ms(due) <= DAY_MS
    partition.clock.advance_us(1)
    assert partition("expire").next_deadline_us == "0"
    assert partition("expire").settled_lines == "0"


def test_the_oldest_deadline_is_settled_first(partition: Partition) -> None:
    partition.stock("A", 5)
    tokens = [partition.hold("A", 1, ttl_us=ttl_us) for ttl_us in (3, 1, 2)]
    partition.clock.advance(1)
    partition("expire")
    expired = [entry["token"] for entry in partition.entries() if entry["type"] == "reservation.expired"]
    assert expired == [tokens[1], tokens[2], tokens[0]]


def test_a_sweep_is_bounded(partition: Partition) -> None:
    partition.stock("A", 150)
    for _ in range(150):
        partition.hold("A", 1)
    partition.clock.advance_us(TTL_US)
    assert [partition("expire").settled_lines for _ in range(3)] == ["100", "50", "0"]


def test_the_bound_counts_lines_and_the_last_basket_is_done(partition: Partition) -> None:
    skus = [f"sku-{number}" for number in range(30)]
    for sku in skus:
        partition.stock(sku, 10)
    for _ in range(5):
        partition.hold(*(value for sku in skus for value in (sku, 1)))
    partition.clock.advance_us(TTL_US)
    assert [partition("expire").settled_lines for _ in range(3)] == ["120", "30", "0"]


def test_read_finds_a_due_hold_expired(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition.clock.advance_us(TTL_US - 1)
    assert partition("read", token=token).state == "held"
    partition.clock.advance_us(1)
    reply = partition("read", token=token)
    assert (reply.status, reply.state, reply.lines, reply.availability) == ("found", "expired", "A\t2\t0", "A\t5\t5")
    assert partition("read", token=token).sequence == reply.sequence == str(partition.sequence)


def test_read_of_a_reservation_behind_a_crowd_of_due_ones(partition: Partition) -> None:
    partition.stock("A", 1000)
    for number in range(250):
        partition.hold("A", 1, ttl_us=1 + number)
    last = partition.hold("A", 1, ttl_us=SECOND_US)
    partition.clock.advance(1)
    assert partition("read", token=last).state == "expired"
    assert partition("read", token=last).state == "expired"


def test_one_reservation_ends_once(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition.clock.advance_us(TTL_US)
    partition("availability", sku="A")
    after = partition.sequence
    for verb in ("read", "release", "commit", "cancel", "extend", "payment"):
        partition(verb, token=token)
    partition("expire")
    assert partition.sequence == after
    assert partition.balances("A") == (5, 0, 0, 0)
