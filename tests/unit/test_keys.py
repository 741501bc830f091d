import binascii

import pytest

from app.domain.types import Sku, Token
from app.store.keys import CLUSTER_SLOTS, Keyspace, derived_token, hash_tag, idempotency_hash, new_token


def slot(key: str) -> int:
    """The slot of Redis Cluster, by its specification: CRC16 (XMODEM) of what stands between the braces."""
    tag = key.partition("{")[2].partition("}")[0]
    return binascii.crc_hqx(tag.encode(), 0) % CLUSTER_SLOTS


def test_the_slot_is_that_of_the_specification() -> None:
    assert binascii.crc_hqx(b"123456789", 0) == 0x31C3
    assert slot("{user1000}.following") == 3443  # CLUSTER KEYSLOT says so


@pytest.mark.parametrize("partitions", [1, 3, 7, 16])
def test_every_partition_lies_in_its_equal_share_of_the_slots(partitions: int) -> None:
    share = CLUSTER_SLOTS / partitions
    for partition, keys in enumerate(Keyspace(partitions).partitions):
        assert keys.index == partition
        found = {
            slot(key) for key in (keys.meta, keys.ledger, keys.deadlines, keys.sku(Sku("{x}")), keys.holds(Sku("x")))
        }
        assert len(found) == 1
        assert int(partition * share) <= found.pop() < (partition + 1) * share


def test_the_tag_is_the_smallest_number_that_lies_there() -> None:
    assert hash_tag(0, 1) == "0"
    for partition in range(16):
        tag = int(hash_tag(partition, 16))
        shares = [slot(f"{{{number}}}") * 16 // CLUSTER_SLOTS for number in range(tag + 1)]
        assert shares.index(partition) == tag


def test_keys_are_those_of_the_design() -> None:
    keys = Keyspace(1).partitions[0]
    assert keys.meta == "lastunit:{0}:meta"
    assert keys.ledger == "lastunit:{0}:ledger"
    assert keys.deadlines == "lastunit:{0}:deadlines"
    assert keys.sku(Sku("A/ü")) == "lastunit:{0}:sku:A/ü"
    assert keys.holds(Sku("A")) == "lastunit:{0}:holds:A"
    assert keys.locations(Sku("A")) == "lastunit:{0}:locations:A"
    assert keys.reservation(Token("t")) == "lastunit:{0}:reservation:t"
    assert keys.seen("wms", "7") == "lastunit:{0}:seen:wms:7"


def test_what_stands_around_the_scripts_is_in_one_slot_and_has_a_name_of_its_own() -> None:
    keyspace = Keyspace(3)
    keys, first = keyspace.sources, keyspace.partitions[0]
    found = [
        keys.dead_letter("1"), keys.dead_letters("open"), keys.dead_letters_done, keys.dead_letter_totals,
        keys.mapping("wms"), keys.source("wms"), keys.counters("wms"), keys.lease("wms"),
        keys.position("wms", "1"), keys.drifts,
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert {slot(key) for key in found} == {slot(first.meta)}
    assert all(key.startswith(first.around) for key in found)
    assert first.around == f"{first.prefix}around:"


def test_skus_spread_over_the_partitions() -> None:
    keyspace = Keyspace(8)
    counts = [0] * 8
    for number in range(8000):
        counts[keyspace.of_sku(Sku(f"SKU-{number:05}")).index] += 1
    assert min(counts) > 700


class TestTokens:
    keyspace = Keyspace(12)

    def test_a_token_names_its_partition(self) -> None:
        for keys in self.keyspace.partitions:
            assert self.keyspace.of_token(new_token(keys))[0] is keys
            assert self.keyspace.of_token(derived_token(keys, b"secret", "a"))[0] is keys

    def test_after_a_rebuild_a_record_may_be_in_any_partition(self) -> None:
        of_another_number = Token("14-" + "x" * 22)
        assert self.keyspace.of_token(of_another_number)[0] is self.keyspace.partitions[2]
        assert set(self.keyspace.of_token(of_another_number)) == set(self.keyspace.partitions)
        assert len(Keyspace(1).of_token(of_another_number)) == 1

    def test_no_two_are_the_same(self) -> None:
        keys = self.keyspace.partitions[0]
        tokens = {new_token(keys) for _ in range(1000)}
        assert len(tokens) == 1000
        assert {len(token) for token in tokens} == {len("0-") + 22}, "128 bits in base64"

    def test_the_same_scope_gives_the_same_one(self) -> None:
        keys = self.keyspace.partitions[3]
        assert derived_token(keys, b"secret", "a", "b") == derived_token(keys, b"secret", "a", "b")
        others = [
            derived_token(keys, b"another", "a", "b"),
            derived_token(keys, b"secret", "a", "c"),
            derived_token(keys, b"secret", "a"),
            derived_token(keys, b"secret", "ab"),
            derived_token(self.keyspace.partitions[4], b"secret", "a", "b"),
        ]
        assert len({derived_token(keys, b"secret", "a", "b"), *others}) == 6

    def test_a_hash_of_a_key_says_nothing_of_it(self) -> None:
        assert len(idempotency_hash(b"secret", "holder", "key")) == 22
        assert idempotency_hash(b"secret", "holder", "key") != idempotency_hash(b"another", "holder", "key")

    @pytest.mark.parametrize(
        "token",
        [
            "",
            "-",
            "0",
            "0-",
            "0-short",
            "00000-" + "x" * 22,
            "-1-" + "x" * 22,
            "x-" + "x" * 22,
            "٣-" + "x" * 22,
            "²-" + "x" * 22,
            "0-" + "x" * 23,
        ],
    )
    def test_what_is_no_token_of_ours(self, token: str) -> None:
        assert self.keyspace.of_token(Token(token)) == ()
