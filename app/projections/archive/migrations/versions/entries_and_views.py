"""The entries, how far they are archived, and the views.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes all of it; a database has either everything or nothing of ours."""
    _create_ledger()
    _create_reservations()
    _create_inventory()


def _create_index(name: str, table: str, columns: list[str], *, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _create_ledger() -> None:
    op.create_table(
        "entries",
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("command", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("sku", NAME, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("committed", sa.BigInteger(), nullable=False),
        sa.Column("backordered", sa.BigInteger(), nullable=False),
        sa.Column("available", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("token", NAME, nullable=True),
        sa.Column("agent_id", NAME, nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("expires_us", sa.BigInteger(), nullable=True),
        sa.Column("location_id", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("safety_stock", sa.BigInteger(), nullable=True),
        sa.Column("location_kind", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("partition", "sequence"),
        sqlite_with_rowid=False,
    )
    _create_index("entries_by_sku", "entries", ["sku", "sequence"])
    _create_index("entries_by_token", "entries", ["token", "sequence"])
    _create_index(
        "entries_of_stock",
        "entries",
        ["sku", "sequence"],
        where="(location_id IS NOT NULL OR safety_stock IS NOT NULL)",
    )
    op.create_table(
        "positions",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("partition"),
    )


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("token", NAME, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("agent_id", NAME, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("reference", NAME, nullable=True),
        sa.Column("order_id", NAME, nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("first_expires_us", sa.BigInteger(), nullable=True),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("created_us", "token", "partition"),
        sqlite_with_rowid=False,
    )
    _create_index("reservations_by_agent_id", "reservations", ["agent_id", "created_us", "token"])
    _create_index(
        "reservations_by_order_id", "reservations", ["order_id", "created_us", "token"], where="order_id IS NOT NULL"
    )
    _create_index(
        "reservations_by_reference", "reservations", ["reference", "created_us", "token"], where="reference IS NOT NULL"
    )
    _create_index("reservations_by_status", "reservations", ["status", "created_us", "token"])
    op.create_table(
        "reservation_lines",
        sa.Column("token", NAME, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sku", NAME, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("backordered", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sku", "created_us", "token"),
        sqlite_with_rowid=False,
    )
    _create_index("reservation_lines_backordered", "reservation_lines", ["sku", "sequence"], where="backordered > 0")
    op.create_table(
        "order_reviews",
        sa.Column("channel", NAME, nullable=False),
        sa.Column("order_id", NAME, nullable=False),
        sa.Column("sku", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "channel", "sku"),
        sqlite_with_rowid=False,
    )


def _create_inventory() -> None:
    op.create_table(
        "current_inventory_by_sku",
        sa.Column("sku", NAME, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("committed", sa.BigInteger(), nullable=False),
        sa.Column("backordered", sa.BigInteger(), nullable=False),
        sa.Column("available", sa.BigInteger(), nullable=False),
        sa.Column("safety_stock", sa.BigInteger(), nullable=False),
        sa.Column("shortfall", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("locations", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sku"),
        sqlite_with_rowid=False,
    )
    _create_index("inventory_in_shortfall", "current_inventory_by_sku", ["sku"], where="shortfall > 0")
