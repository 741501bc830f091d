"""The typed contract of every script: the names of its arguments and of its reply, in order.

Checked against the scripts' headers when they are loaded, so a call cannot drift from what a script binds. Arguments
are text or integers; None never reaches the wire.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from app.store.scripts import Script, ScriptError

Argument = str | int | bytes


class ReserveArgs(NamedTuple):
    """Followed by sku, quantity pairs."""

    not_after_us: int
    token: str
    agent: str
    channel: str
    ttl_us: int
    allow_backorder: int
    fingerprint: str
    details: bytes
    holder: str
    account: str


class ReserveReply(NamedTuple):
    """Of reserve; of a refusal, `lines` says what it is about."""

    status: bytes
    now_us: bytes
    state: bytes
    created_us: bytes
    expires_us: bytes
    sequence: bytes
    lines: bytes
    availability: bytes


class ReleaseArgs(NamedTuple):
    """Of release."""

    not_after_us: int
    token: str
    claim: str
    key_hash: str
    fingerprint: str
    details: bytes


class CommitArgs(NamedTuple):
    """Followed by sku, quantity pairs, none for all."""

    not_after_us: int
    token: str
    claim: str
    key_hash: str
    fingerprint: str
    details: bytes
    order_id: str


class CancelArgs(NamedTuple):
    """Followed by sku, quantity pairs, none for all."""

    not_after_us: int
    token: str
    claim: str
    key_hash: str
    fingerprint: str
    details: bytes


class ExtendArgs(NamedTuple):
    """Of extend; `counted_from` is now or deadline."""

    not_after_us: int
    token: str
    claim: str
    key_hash: str
    fingerprint: str
    details: bytes
    counted_from: str
    amount_us: int
    max_lifetime_us: int


class PaymentArgs(NamedTuple):
    """Of payment."""

    not_after_us: int
    token: str
    claim: str
    key_hash: str
    fingerprint: str
    details: bytes
    ttl_us: int
    max_lifetime_us: int


class AllocateArgs(NamedTuple):
    """Followed by sku, location, quantity triples."""

    not_after_us: int
    token: str
    claim: str
    key_hash: str
    fingerprint: str
    details: bytes


class ReadArgs(NamedTuple):
    """Of read."""

    not_after_us: int
    token: str
    claim: str


class ReservationReply(NamedTuple):
    """Of every verb on a reservation."""

    status: bytes
    now_us: bytes
    state: bytes
    agent: bytes
    channel: bytes
    order_id: bytes
    details: bytes
    created_us: bytes
    expires_us: bytes
    sequence: bytes
    lines: bytes
    availability: bytes


class AdjustArgs(NamedTuple):
    """Of adjust."""

    not_after_us: int
    sku: str
    location: str
    location_kind: str
    mode: str
    amount: int
    expected_sequence: str
    reason: str
    fingerprint: str
    seen_retention_ms: int
    details: bytes


class TransferArgs(NamedTuple):
    """Of transfer."""

    not_after_us: int
    sku: str
    from_location: str
    to_location: str
    to_location_kind: str
    quantity: int
    expected_sequence: str
    reason: str
    fingerprint: str
    seen_retention_ms: int
    details: bytes


class CloseShortfallArgs(NamedTuple):
    """Of close_shortfall."""

    not_after_us: int
    sku: str


class ApplyUpdateArgs(NamedTuple):
    """Followed by lines, each the fields of a line with TABs between."""

    not_after_us: int
    source: str
    delivery_id: str
    priority: int
    deduct_on: str
    may_create: int
    seen_retention_ms: int


class ApplyUpdateReply(NamedTuple):
    """Of apply_update; `results` are rows of number TAB status TAB sequence."""

    status: bytes
    now_us: bytes
    sequence: bytes
    results: bytes


class ReconcileArgs(NamedTuple):
    """Followed by SKUs."""

    not_after_us: int
    authorities: str


class ReconcileReply(NamedTuple):
    """Of reconcile; `drifts` are rows of sku, location, source, on_hand, by the authority, outcome, sequence."""

    status: bytes
    now_us: bytes
    sequence: bytes
    skus: bytes
    checked: bytes
    drifts: bytes


class PutSkuArgs(NamedTuple):
    """Followed by field, value pairs of the policy; an empty value takes a field away."""

    not_after_us: int
    sku: str
    expected_sequence: str
    may_create: int
    details: bytes


class PutCategoryArgs(NamedTuple):
    """Followed by field, value pairs of the policy."""

    not_after_us: int
    details: bytes


class PutCategoryReply(NamedTuple):
    """Of put_category."""

    status: bytes
    now_us: bytes
    sequence: bytes


class AvailabilityArgs(NamedTuple):
    """Of availability; `channel` is empty for none."""

    not_after_us: int
    sku: str
    channel: str


class SkuReply(NamedTuple):
    """Of every command on a SKU."""

    status: bytes
    now_us: bytes
    sequence: bytes
    on_hand: bytes
    reserved: bytes
    committed: bytes
    backordered: bytes
    safety_stock: bytes
    available: bytes
    shortfall: bytes
    next_release_us: bytes
    locations: bytes
    channel_left: bytes
    safety_stock_units: bytes
    safety_stock_basis_points: bytes
    backorder_limit: bytes
    low_stock_threshold: bytes
    max_quantity_per_reservation: bytes
    reconciliation_hold_us: bytes
    lead_time_days: bytes
    next_restock_date: bytes
    incoming: bytes
    substitutes: bytes
    variant_group: bytes
    category: bytes
    channel_limits: bytes
    degraded_policy: bytes


class ExpireArgs(NamedTuple):
    """Of expire."""

    not_after_us: int


class ExpireReply(NamedTuple):
    """Of expire; `next_deadline_us` is 0 when nothing is live."""

    status: bytes
    now_us: bytes
    settled_lines: bytes
    next_deadline_us: bytes


class ImportStockArgs(NamedTuple):
    """Followed by rows of sku, location, location_kind, on_hand, details; `mode` is check or apply."""

    not_after_us: int
    mode: str
    reason: str


class ImportStockReply(NamedTuple):
    """Of import_stock: so many rows are done, of which `changed` wrote something."""

    status: bytes
    now_us: bytes
    sequence: bytes
    rows: bytes
    changed: bytes


class AcknowledgeArgs(NamedTuple):
    """Of acknowledge."""

    reader: str
    sequence: int
    entries_kept: int


class AcknowledgeReply(NamedTuple):
    """Of acknowledge; when rolled_back, `acknowledged` is where the engine's ledger ends."""

    status: bytes
    acknowledged: bytes
    first_sequence: bytes


class OpenPartitionArgs(NamedTuple):
    """Of open_partition."""

    schema_version: int
    partition: int
    partitions: int
    secret: str
    retention_ms: int
    sequence_seen: int
    take_clock: int
    committed_retention_ms: int
    caps: str


class OpenPartitionReply(NamedTuple):
    """Of open_partition; of a mismatch, `sequence` is what the engine has."""

    status: bytes
    now_us: bytes
    secret: bytes
    sequence: bytes


CONTRACTS: dict[str, tuple[Any, Any]] = {
    "acknowledge": (AcknowledgeArgs, AcknowledgeReply),
    "adjust": (AdjustArgs, SkuReply),
    "apply_update": (ApplyUpdateArgs, ApplyUpdateReply),
    "allocate": (AllocateArgs, ReservationReply),
    "availability": (AvailabilityArgs, SkuReply),
    "cancel": (CancelArgs, ReservationReply),
    "close_shortfall": (CloseShortfallArgs, SkuReply),
    "commit": (CommitArgs, ReservationReply),
    "expire": (ExpireArgs, ExpireReply),
    "extend": (ExtendArgs, ReservationReply),
    "import_stock": (ImportStockArgs, ImportStockReply),
    "open_partition": (OpenPartitionArgs, OpenPartitionReply),
    "payment": (PaymentArgs, ReservationReply),
    "put_category": (PutCategoryArgs, PutCategoryReply),
    "put_sku": (PutSkuArgs, SkuReply),
    "read": (ReadArgs, ReservationReply),
    "reconcile": (ReconcileArgs, ReconcileReply),
    "release": (ReleaseArgs, ReservationReply),
    "reserve": (ReserveArgs, ReserveReply),
    "transfer": (TransferArgs, SkuReply),
}


def check_contracts(scripts: Mapping[str, Script]) -> None:
    """Raises ScriptError where a script's header and its typed call differ, or one is without the other."""
    if unmatched := sorted(scripts.keys() ^ CONTRACTS.keys()):
        raise ScriptError(f"{', '.join(unmatched)}: a script without a typed call, or a typed call without a script")
    for name, (args, reply) in CONTRACTS.items():
        for what, declared, typed in (
            ("ARGV", scripts[name].args, args._fields),
            ("REPLY", scripts[name].reply, reply._fields),
        ):
            if declared != typed:
                raise ScriptError(
                    f"{name}.lua: {what} is {' '.join(declared)}, but app.store.calls has {' '.join(typed)}"
                )
