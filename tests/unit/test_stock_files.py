"""Stock files as they come: what is read from them, and the one sentence for each way to be wrong."""

import io
import json
from typing import Any

import jiter
import pytest
from pydantic import ValidationError

from app.api.schemas import PolicyBody
from app.workflows.stock_files.columns import COLUMNS
from app.workflows.stock_files.faults import StockFileError, decode_policy
from app.workflows.stock_files.staging import Staging, StagingFailed
from app.workflows.stock_files.summaries import read_summaries
from app.workflows.stock_files.tables import HEADER, LINE_BYTES_MAX, read_table

HEAD = "sku,location_id,on_hand"


def table(text: str | bytes) -> list[tuple[Any, ...]]:
    """Number, SKU, location, units and policy of each row."""
    raw = text.encode() if isinstance(text, str) else text
    return [(*row[:4], decode_policy(row.policy)) for row in read_table(io.BytesIO(raw))]


def refusal(text: str | bytes) -> str:
    with pytest.raises(StockFileError) as refused:
        table(text)
    return str(refused.value)


def cell(column: str, text: str) -> str:
    """The engine's text for a cell of a column."""
    found = table(f'{HEAD},{column}\nA,main,1,"{text.replace(chr(34), chr(34) * 2)}"\n')[0][4]
    assert list(found) == [COLUMNS[column].field]
    stored: str = found[COLUMNS[column].field]
    return stored


def test_rows() -> None:
    assert table(f"{HEAD},safety_stock\nA,east,5,1\nB,west,0,\n") == [
        (2, "A", "east", 5, {"safety_stock_units": "1"}),
        (3, "B", "west", 0, {}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEAD}\nA,main,5\n",
        f"{HEAD}\r\nA,main,5\r\n",
        f"{HEAD}\nA,main,5",
        '"sku","location_id","on_hand"\n"A","main","5"\n',
        f"{HEAD}\n\n\r\nA,main,5\n\n",
        "on_hand,sku,location_id\n005,A,main\n",
        "product_id,quantity\nA,5\n",
    ],
)
def test_the_same_said_otherwise(text: str) -> None:
    ((_, *row),) = table(text)
    assert row == ["A", "main", 5, {}]


def test_quotes_hold_commas_quotes_and_line_ends() -> None:
    found = table(f'{HEAD},lead_time_days\n"A, ""B""",main,5,\n\nC,main,1,2\n')
    assert [(row[0], row[1]) for row in found] == [(2, 'A, "B"'), (4, "C")]


def test_ids_are_normalized() -> None:
    assert table(f"{HEAD}\nGru\u0308n,main,5\n")[0][1] == "Gr\u00fcn"


def test_a_row_without_location_and_count_is_about_the_policy() -> None:
    assert table(f"{HEAD},backorder_limit\nA,,,3\n") == [(2, "A", None, None, {"backorder_limit": "3"})]


IDS = "must have 1 to 128 characters"
WHOLE = "must be a whole number from 0 to 1000000000000, in digits alone"
NO_WHOLE = (
    "", "-1", "1.5", "1e3", "nan", "inf", "0x10", " 5", "5 ", "1_000", "1,000", "٣", "9" * 17,
    "1000000000001", "c4n4ry",
)  # fmt: skip
COLUMNS_NEEDED = "line 1: must name the columns, separated by commas; missing:"
REFUSALS: list[tuple[str | bytes, str]] = [
    ("", "the file is empty: its first line must name the columns sku, location_id, on_hand"),
    ("\n\n", "the file is empty: its first line must name the columns sku, location_id, on_hand"),
    ("sku,on_hand\n", f"{COLUMNS_NEEDED} location_id"),
    ("sku;location_id;on_hand\n", f"{COLUMNS_NEEDED} sku, location_id, on_hand"),
    ("A,main,5\n", f"{COLUMNS_NEEDED} sku, location_id, on_hand"),
    ("product_id,quantity,color\n", f"{COLUMNS_NEEDED} sku, location_id, on_hand"),
    (f"{HEAD},sku\n", "line 1: column 4 has the name of a column before it"),
    (f"{HEAD},c4n4ry\n", f"line 1: column 4 is none of {', '.join(HEADER)}"),
    (f"{HEAD},\n", f"line 1: column 4 is none of {', '.join(HEADER)}"),
    (f"{HEAD}\nA,main\n", "line 2: has 2 fields, but the header has 3"),
    (f"{HEAD}\nA,main,5\nB,main,5,6\n", "line 3: has 4 fields, but the header has 3"),
    (f"{HEAD}\n,main,5\n", f"line 2, column sku: {IDS}"),
    (f"{HEAD}\n{'c4n4ry' * 22},main,5\n", f"line 2, column sku: {IDS}"),
    (f"{HEAD}\n A,main,5\n", "line 2, column sku: must not begin or end with space"),
    (f"{HEAD}\nA\0B,main,5\n", "line 2, column sku: must not contain control characters"),
    (f'{HEAD}\n"A\nB",main,5\n', "line 2, column sku: must not contain control characters"),
    (f"{HEAD}\nA,,5\n", f"line 2, column location_id: {IDS}"),
    (f"{HEAD}\nA,x\x7fy,5\n", "line 2, column location_id: must not contain control characters"),
    *[(f'{HEAD}\nA,main,"{text}"\n', f"line 2, column on_hand: {WHOLE}") for text in NO_WHOLE],
    (f'{HEAD}\nA,main,"5\n', "line 2: is not CSV: a quote is never closed"),
    (HEAD + '\nA,"' + "x\n" * 99_999, "line 2: is not CSV: a field is too long, or a quote is never closed"),
    (
        f'{HEAD}\nA,main,"5"6\n',
        "line 2: is not CSV: a quoted field goes on after its quote; a quote in it is written twice",
    ),
    (f"{HEAD}\rA,main,5\r", "line 1: is not CSV: lines must end with LF or CRLF"),
    (f"{HEAD}\nA,{'x' * LINE_BYTES_MAX},5\n", f"line 2: is over {LINE_BYTES_MAX} bytes long"),
    (f"{HEAD}\nA,main,5\n".encode() + b"\xff\xfe,main,5\n", "line 3: is not UTF-8"),
    (f"{HEAD}\nA,main,5\n".encode() + b"\xed\xa0\x80,main,5\n", "line 3: is not UTF-8"),
    (f"{HEAD}\nA,main,5\n".encode("utf-16"), "line 1: is not UTF-8"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSALS)
def test_what_is_wrong_is_one_sentence_that_quotes_nothing(text: str | bytes, sentence: str) -> None:
    assert refusal(text) == sentence
    assert "c4n4ry" not in sentence


NAMED: dict[str, dict[str, str]] = {
    "safety_stock": {"0": "0", "1000000000000": "1000000000000"},
    "safety_stock_percent": {"0": "0", "0.07": "7", "12.5": "1250", "100": "10000"},
    "backorder_limit": {"7": "7"},
    "low_stock_threshold": {"7": "7"},
    "max_quantity_per_reservation": {"1": "1", "1000000": "1000000"},
    "lead_time_days": {"0": "0", "3650": "3650"},
    "next_restock_date": {"2028-02-29": "2028-02-29"},
    "incoming_quantity": {"500": "500"},
    "category": {"Grün": "Grün"},
    "substitutes": {'["B/1", "Grün"]': '["B/1", "Grün"]'},
    "variant_group": {"shoes": "shoes"},
    "channel_limits": {'{"amazon": 5}': '{"amazon": 5}'},
    "degraded_policy": {"conservative": "conservative"},
    "reconciliation_hold_seconds": {"2.5": "2500000", "60": "60000000", "0.000001": "1"},
}
NOT_NAMED: dict[str, tuple[str, ...]] = {
    "safety_stock": ("-1", "1.5", "1000000000001"),
    "safety_stock_percent": ("-1", "0.001", "100.01", "101", "nan", "1e1", "."),
    "backorder_limit": ("-1",),
    "low_stock_threshold": ("-1",),
    "max_quantity_per_reservation": ("0", "1000001"),
    "lead_time_days": ("-1", "3651"),
    "next_restock_date": ("2027-02-29", "20280229", "2028-2-29", "tomorrow"),
    "incoming_quantity": ("-1",),
    "category": (" x", "x" * 129),
    "substitutes": (
        "A",
        "[]",
        "[1]",
        '["\\ud800"]',
        '[" A"]',
        '{"A": 1}',
        "[" * 5000,
        str(["A"] * 21).replace("'", '"'),
    ),
    "variant_group": (" x", "x\ty"),
    "channel_limits": ("5", "{}", '{"a": -1}', '{"a": 1.5}', '{"a": "5"}', '{" a": 5}'),
    "degraded_policy": ("hope",),
    "reconciliation_hold_seconds": ("-1", "60.000001", "61", "0.0000001"),
}


ONLY_REQUESTS_SAY = {"[]", "{}", "1e1", "0.0000001"}


def test_every_column_is_tried() -> None:
    assert list(COLUMNS) == list(NAMED) == list(NOT_NAMED)


@pytest.mark.parametrize(("column", "text"), [(column, text) for column, cells in NAMED.items() for text in cells])
def test_policy_columns(column: str, text: str) -> None:
    stored = NAMED[column][text]
    assert cell(column, text) == stored
    assert cell(column, COLUMNS[column].write(stored)) == stored


@pytest.mark.parametrize(("column", "text"), [(column, text) for column, cells in NOT_NAMED.items() for text in cells])
def test_malformed_policy_columns(column: str, text: str) -> None:
    with pytest.raises(StockFileError, match=f"^line 2, column {column}: must "):
        cell(column, text)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_cell_may_say_what_a_request_may(column: str) -> None:
    """The bounds of a file are those of PUT, which also takes what a cell leaves empty or would have to round."""
    for cells, is_good in ((tuple(NAMED[column]), True), (NOT_NAMED[column], False)):
        for text in set(cells) - ONLY_REQUESTS_SAY:
            assert is_accepted(column, text) == is_good, text


def is_accepted(column: str, text: str) -> bool:
    is_text = column in ("category", "variant_group", "next_restock_date", "degraded_policy")
    try:
        value = text if is_text else jiter.from_json(text.encode(), allow_inf_nan=False)
        PolicyBody.model_validate({column: value})
    except (ValidationError, ValueError, RecursionError):
        return False
    return True


# Amazon's summaries


def summary(sku: str = "A", **details: object) -> dict[str, object]:
    return {"sellerSku": sku, "asin": "B00", "totalQuantity": 99, "inventoryDetails": details}


def answered(*summaries: object, location: object = "ATVPDKIKX0DER") -> dict[str, Any]:
    granularity = {"granularityType": "Marketplace", "granularityId": location}
    return {"pagination": {"nextToken": "t"}, "payload": {"granularity": granularity, "inventorySummaries": summaries}}


def summaries(content: object) -> list[tuple[Any, ...]]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return [(*row[:4], decode_policy(row.policy)) for row in read_summaries(io.BytesIO(raw))]


def test_on_hand_is_what_amazon_can_ship_now() -> None:
    inbound = {"inboundWorkingQuantity": 1, "inboundShippedQuantity": 2, "inboundReceivingQuantity": 4}
    reserved = {"reservedQuantity": {"totalReservedQuantity": 8}, "unfulfillableQuantity": None}
    answer = answered(
        summary("A B", fulfillableQuantity=66, **inbound, **reserved), summary("C", fulfillableQuantity=0)
    )
    for content in (answer, {"request": {}, "response": answer}, b"\xef\xbb\xbf" + json.dumps(answer).encode()):
        assert summaries(content) == [
            (1, "A B", "ATVPDKIKX0DER", 66, {"incoming": "7"}),
            (2, "C", "ATVPDKIKX0DER", 0, {"incoming": "0"}),
        ]


AT = "at `$.payload.inventorySummaries[0].inventoryDetails.fulfillableQuantity`"
NO_ANSWER = "is not an answer with inventory summaries:"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not one JSON value in UTF-8"),
        (b"{", "is not one JSON value in UTF-8"),
        (b'{"payload": NaN}', "is not one JSON value in UTF-8"),
        (b'{"x": ' + b"[" * 100_000, "is not one JSON value in UTF-8"),
        ([], f"{NO_ANSWER} Expected `object`, got `array`"),
        ({"errors": []}, f"{NO_ANSWER} it has no payload"),
        (answered(summary(fulfillableQuantity=1), location=" x"), "granularityId: must not begin or end with space"),
        (answered(summary("c4n4ry" * 22, fulfillableQuantity=1)), f"summary 1, sellerSku: {IDS}"),
        (answered({"sellerSku": "A"}), "summary 1: has no inventoryDetails: ask Amazon with details=true"),
        (
            answered(summary(fulfillableQuantity=-1)),
            f"{NO_ANSWER} Expected `int` >= 0 - {AT}",
        ),
        (
            answered(summary(fulfillableQuantity="c4n4ry")),
            f"{NO_ANSWER} Expected `int`, got `str` - {AT}",
        ),
    ],
)
def test_what_is_wrong_with_an_answer(content: object, sentence: str) -> None:
    with pytest.raises(StockFileError) as refused:
        summaries(content)
    assert str(refused.value) == sentence


# Staging


def test_rows_come_sorted_a_sku_at_a_time() -> None:
    with Staging() as staging:
        staging.add(read_table(io.BytesIO(f"{HEAD}\nB,y,1\nA,z,2\nB,x,3\nA,,\n".encode())))
        groups = [[(row.number, row.location_id) for row in group] for group in staging.sort()]
    assert groups == [[(5, None), (3, "z")], [(4, "x"), (2, "y")]]


def test_a_crowd_of_rows_of_one_sku_is_cut_where_it_is_too_many() -> None:
    with Staging() as staging:
        staging.add(read_table(io.BytesIO((f"{HEAD}\n" + "".join(f"A,l{n},1\n" for n in range(500))).encode())))
        assert [len(group) for group in staging.sort()] == [202]


def test_no_room_for_the_rows_is_one_sentence() -> None:
    with Staging() as staging:
        staging._database.execute("PRAGMA max_page_count = 2")
        with pytest.raises(StagingFailed, match=r"^the rows cannot be staged in .+: make room there, or set TMPDIR$"):
            staging.add(read_table(io.BytesIO((f"{HEAD}\n" + "A,main,1\n" * 5000).encode())))
