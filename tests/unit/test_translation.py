"""A vendor's line in our words."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.connectors.connector import VendorLine
from app.connectors.source_settings import SourceSettings
from app.domain.types import Sku
from app.domain.updates import StockUpdate, UpdateKind
from app.ingest.translation import Dictionary, Untranslatable
from app.store.mappings import SourceMapping
from app.store.source_states import ClockKind
from tests.webhooks import SECRET

LINE = VendorLine(UpdateKind.RECEIVE, 2, 1_000_000, "V-1", "V-1", "E1")


NOTHING_SAID = SourceMapping()


def translate(
    line: VendorLine, said: SourceMapping = NOTHING_SAID, *, clock_kind: ClockKind = ClockKind.TIME, **table: object
) -> StockUpdate | Untranslatable:
    settings = SourceSettings.model_validate({"connector": "wms", "secrets": [SECRET], **table})
    return Dictionary("wms", settings, said, clock_kind).translate(7, line)


def update(line: VendorLine, said: SourceMapping = NOTHING_SAID, **table: object) -> StockUpdate:
    found = translate(line, said, clock_kind=ClockKind.TIME, **table)
    assert isinstance(found, StockUpdate)
    return found


def test_a_line_as_it_is() -> None:
    assert update(LINE) == StockUpdate(
        number=7, kind=UpdateKind.RECEIVE, sku=Sku("V-1"), location_id="E1", quantity=2, occurred_at_us=1_000_000,
        clock={"wms": 1_000_000}, system="wms", channel="direct",
    )  # fmt: skip


def test_what_a_line_leaves_out() -> None:
    found = update(replace(LINE, location_id=None), default_location="WEST", channel="shop")
    assert (found.location_id, found.channel) == ("WEST", "shop")
    assert update(replace(LINE, channel="web"), channel="shop").channel == "web"


@pytest.mark.parametrize(
    ("item_id", "sku", "operators", "table", "ours"),
    [
        ("V-1", "V-1", {}, None, "V-1"),
        ("V-1", "V-1", {}, {"V-1": "A"}, "A"),
        ("V-1", "V-1", {"V-1": "B"}, {"V-1": "A"}, "B"),
        ("V-1", "THEIRS", {}, {"V-2": "A"}, "THEIRS"),
        ("V-1", None, {}, {"V-2": "A"}, None),
        ("V-1", None, {"V-1": "B"}, None, "B"),
    ],
)
def test_skus(
    item_id: str, sku: str | None, operators: Mapping[str, str], table: Mapping[str, str] | None, ours: str | None
) -> None:
    line = replace(LINE, item_id=item_id, sku=sku)
    found = translate(line, SourceMapping(skus=operators), skus=table)
    assert (found.sku if isinstance(found, StockUpdate) else found) == (ours or Untranslatable.UNKNOWN_SKU)


@pytest.mark.parametrize(
    ("operators", "table", "ours"),
    [
        ({}, None, "E1"),
        ({}, {"E1": "EAST"}, "EAST"),
        ({}, {"E2": "EAST"}, None),
        ({}, {}, None),
        ({"E1": "NORTH"}, {"E1": "EAST"}, "NORTH"),
        ({"E2": "NORTH"}, None, "E1"),
    ],
)
def test_locations(operators: Mapping[str, str], table: Mapping[str, str] | None, ours: str | None) -> None:
    said = SourceMapping(locations=operators)
    to_there = replace(LINE, kind=UpdateKind.TRANSFER, to_location_id="E1", location_id=None)
    if ours is None:
        for line in (LINE, to_there):
            assert translate(line, said, locations=table) is Untranslatable.UNKNOWN_LOCATION
    else:
        assert update(LINE, said, locations=table).location_id == ours
        assert update(to_there, said, locations=table).to_location_id == ours


@pytest.mark.parametrize(
    ("kind", "clock", "system"),
    [
        (UpdateKind.RECEIVE, {"wms": 7}, "wms"),
        (UpdateKind.RECEIVE, {"arm": 7}, "arm"),
        (UpdateKind.RECEIVE, {"arm": 7, "wms": 9}, "wms"),
        (UpdateKind.RECEIVE, {"arm": 7, "belt": 9}, None),
        (UpdateKind.TRANSFER, {"arm": 7, "belt": 9}, None),
        (UpdateKind.COUNT, {"belt": 7, "arm": 9}, "arm"),
        (UpdateKind.COUNT, {"arm": 7, "wms": 9}, "wms"),
    ],
)
def test_clocks(kind: UpdateKind, clock: Mapping[str, int], system: str | None) -> None:
    line = replace(LINE, kind=kind, clock=clock)
    found = translate(line, clock_kind=ClockKind.COUNTER)
    if system is None:
        assert found is Untranslatable.CLOCK_AMBIGUOUS
    else:
        assert isinstance(found, StockUpdate)
        assert (found.clock, found.system) == (clock, system)
    assert translate(line, clock_kind=ClockKind.TIME) is Untranslatable.CLOCK_MIXED
    assert translate(LINE, clock_kind=ClockKind.COUNTER) is Untranslatable.CLOCK_MIXED
