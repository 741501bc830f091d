"""Amazon's answer to `GET /fba/inventory/v1/summaries` (Selling Partner API) as rows of stock.

On hand is `fulfillableQuantity`: what Amazon can pick, pack and ship now. `totalQuantity` will not do: it counts what
is still on its way, what is damaged or looked for, and what Amazon has promised to buyers whose orders this ledger
does not know. What is inbound becomes `incoming_quantity`. The location is the marketplace that was asked about.
"""

from collections.abc import Iterator
from typing import IO, Annotated

import msgspec
from msgspec import Meta, Struct

from app.domain.ids import normalized_id
from app.domain.types import Sku
from app.store.imports import StockRow
from app.workflows.stock_files.columns import UNITS_MAX
from app.workflows.stock_files.faults import StockFileError, encode_policy

BYTES_MAX = 64 * 1024 * 1024

Units = Annotated[int, Meta(ge=0, le=UNITS_MAX)]


class _Details(Struct, rename="camel"):
    fulfillable_quantity: Units
    inbound_working_quantity: Units = 0
    inbound_shipped_quantity: Units = 0
    inbound_receiving_quantity: Units = 0


class _Summary(Struct, rename="camel"):
    seller_sku: str
    inventory_details: _Details | None = None


class _Granularity(Struct, rename="camel"):
    granularity_id: str


class _Payload(Struct, rename="camel"):
    granularity: _Granularity
    inventory_summaries: list[_Summary]


class _Body(Struct):
    payload: _Payload


class _Answer(Struct):
    """An answer as it comes, or as the published examples wrap it."""

    payload: _Payload | None = None
    response: _Body | None = None


def read_summaries(file: IO[bytes]) -> Iterator[StockRow]:
    """The rows of an answer; raises StockFileError at the first that is wrong, and where details were not asked for."""
    raw = file.read(BYTES_MAX + 1)
    if len(raw) > BYTES_MAX:
        raise StockFileError("", f"the file is over {BYTES_MAX} bytes: import the pages of the answer one by one")
    try:
        answer = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=_Answer)
    except msgspec.ValidationError as error:
        raise StockFileError("", f"is not an answer with inventory summaries: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StockFileError("", "is not one JSON value in UTF-8") from None
    payload = answer.payload or (answer.response and answer.response.payload)
    if not payload:
        raise StockFileError("", "is not an answer with inventory summaries: it has no payload")
    location = _id("granularityId", payload.granularity.granularity_id)
    for number, summary in enumerate(payload.inventory_summaries, 1):
        sku = _id(f"summary {number}, sellerSku", summary.seller_sku)
        yield _row(number, sku, location, summary.inventory_details)


def _id(where: str, text: str) -> str:
    try:
        return normalized_id(text)
    except ValueError as error:
        raise StockFileError(where, str(error)) from None


def _row(number: int, sku: str, location: str, details: _Details | None) -> StockRow:
    if details is None:
        raise StockFileError(f"summary {number}", "has no inventoryDetails: ask Amazon with details=true")
    incoming = details.inbound_working_quantity + details.inbound_shipped_quantity + details.inbound_receiving_quantity
    return StockRow(
        number, Sku(sku), location, details.fulfillable_quantity, encode_policy({"incoming": str(incoming)})
    )
