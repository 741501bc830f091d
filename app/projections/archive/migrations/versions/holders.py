"""Whose key a reservation was made with. What was archived before came without one.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
IS_NAMED = sa.text("holder IS NOT NULL")


def upgrade() -> None:
    """Adds the column, empty, and its index."""
    op.add_column("reservations", sa.Column("holder", NAME, nullable=True))
    op.create_index(
        "reservations_by_holder",
        "reservations",
        ["holder", "created_us", "token"],
        sqlite_where=IS_NAMED,
        postgresql_where=IS_NAMED,
    )
