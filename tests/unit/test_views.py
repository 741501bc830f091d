"""The views of an archive are what a replay of the same entries leaves."""

import pytest

from app.domain.entries import Entry
from app.domain.types import Sku
from app.projections.archive.views import OrderReviewRow, Views
from tests.archiving import prove_views
from tests.ledgers import Row, S, entry_of, replayed
from tests.unit import test_replay, test_replay_updates
from tests.unit.test_replay_updates import NOWHERE, of_order

A = Sku("A")
T1 = {"token": "t1", "expires_s": 99}
# Two are promised beyond stock, sold, and shipped though nobody told of their arrival; one arrives.
LATE_ROWS: list[Row] = [
    (1, 1, "sku.updated", "A", 0, 0, 0, 0, 0, 0, {"data": {"policy": {"backorder_limit": "5"}}, **NOWHERE}),
    (2, 2, "reservation.held", "A", 2, 0, 2, 0, 2, 0, T1),
    (3, 3, "reservation.committed", "A", 2, 0, 0, 2, 2, 0, {**T1, "data": {"order_id": "o"}}),
    (4, 4, "stock.shipped", "A", -2, -2, 0, 0, 2, 0, of_order("ship", 2, 4, "o", is_away=True)),
    (4, 4, "reservation.fulfilled", "A", 2, -2, 0, 0, 2, 0, T1),
    (6, 5, "stock.adjusted", "A", 1, -1, 0, 0, 1, 0, {}),
]
LEDGERS = {
    "sales": test_replay.LEDGER,
    "stock": test_replay.STOCK_LEDGER,
    "sources": test_replay_updates.LEDGER,
    "late": [entry_of(sequence, row) for sequence, row in enumerate(LATE_ROWS, 1)],
}


@pytest.mark.parametrize("ledger", LEDGERS.values(), ids=LEDGERS)
def test_they_are_what_a_replay_leaves(ledger: list[Entry]) -> None:
    ends = [at for at, entry in enumerate(ledger) if entry.command == entry.sequence]
    for end in [*ends, len(ledger)]:  # after every command
        prove_views(replayed(ledger[:end]), ledger[:end])


def test_what_a_person_should_look_at_of_an_order() -> None:
    views = Views(inventory={}, reservations={}, backorders={}, order_reviews={})
    views.apply(test_replay_updates.LEDGER)
    review = OrderReviewRow("direct", "p", A, "shipped_beyond_sold", 13 * S)
    assert views.order_reviews == views.changed_reviews == {review.key: review}
