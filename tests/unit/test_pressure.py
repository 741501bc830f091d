import pytest

from app.domain.pressure import PROCEED, Advice, Pressure, advice_for, pressure_of


@pytest.mark.parametrize(
    ("available", "threshold", "pressure"),
    [
        (0, 5, "out"),
        (0, 0, "out"),
        (1, 5, "low"),
        (5, 5, "low"),
        (6, 5, "normal"),
        (1, 0, "normal"),
        (99, 5, "normal"),
        (100, 5, "abundant"),
        (10**12, 5, "abundant"),
        (150, 200, "low"),
    ],
)
def test_the_first_that_fits(available: int, threshold: int, pressure: Pressure) -> None:
    assert pressure_of(available, threshold) == pressure


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"requested": 2, "available": 2}, PROCEED),
        ({"requested": 3, "available": 2}, Advice("give_up")),
        ({"next_release_us": 5_000_001}, Advice("retry_after", retry_after_ms=4001, next_release_us=5_000_001)),
        ({"next_release_us": 1_000_001}, Advice("retry_after", retry_after_ms=1, next_release_us=1_000_001)),
        ({"next_release_us": 900_000}, Advice("retry_after", retry_after_ms=1, next_release_us=900_000)),
        ({"next_release_us": 5_000_001, "releasable": 2}, Advice("give_up")),
        ({"backorder_left": 1}, Advice("backorder")),
        ({"requested": 4, "backorder_left": 1}, Advice("give_up")),
        ({"next_restock_date": "2026-03-01"}, Advice("preorder", next_restock_date="2026-03-01")),
        ({"substitutes": ("B",)}, Advice("substitute", alternatives=("B",))),
        ({"available": 0, "backorder_left": 3, "substitutes": ("B",)}, Advice("backorder")),
        (
            {
                "next_release_us": 2_000_000,
                "backorder_left": 9,
                "next_restock_date": "2026-03-01",
                "substitutes": ("B",),
            },
            Advice("retry_after", retry_after_ms=1000, next_release_us=2_000_000),
        ),
        (
            {"next_restock_date": "2026-03-01", "substitutes": ("B",)},
            Advice("preorder", next_restock_date="2026-03-01"),
        ),
    ],
)
def test_the_nearest_help_comes_first(given: dict[str, object], advice: Advice) -> None:
    defaults = {
        "requested": 3,
        "available": 2,
        "backorder_left": 0,
        "next_release_us": None,
        "releasable": 3,
        "now_us": 1_000_000,
    }
    assert advice_for(**{**defaults, **given}) == advice  # type: ignore[arg-type]  # a row of the table above
