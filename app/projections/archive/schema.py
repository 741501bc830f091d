"""The archive's tables. What each is for stands in docs/archive.md; a change here is a migration beside it.

Quantities in units, times in us of engine time, `data`, `details`, `policy`, `locations` and `meta` JSON text.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    and_,
    text,
)

metadata = MetaData()
# Compared byte by byte on every database: the same order everywhere, and quicker.
Name = Text().with_variant(Text(collation="C"), "postgresql")

# What was archived, in order and without a gap, by (partition, sequence).
entries = Table(
    "entries",
    metadata,
    Column("partition", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("command", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("sku", Name, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("on_hand", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("committed", BigInteger, nullable=False),
    Column("backordered", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("token", Name),
    Column("agent_id", Name),
    Column("channel", Text),
    Column("expires_us", BigInteger),
    Column("location_id", Text),
    Column("source", Text),
    Column("safety_stock", BigInteger),
    Column("location_kind", Text),
    PrimaryKeyConstraint("partition", "sequence"),
    sqlite_with_rowid=False,
)
Index("entries_by_sku", entries.c.sku, entries.c.sequence)
Index("entries_by_token", entries.c.token, entries.c.sequence)
IS_OF_STOCK = text("(location_id IS NOT NULL OR safety_stock IS NOT NULL)")
Index("entries_of_stock", entries.c.sku, entries.c.sequence, sqlite_where=IS_OF_STOCK, postgresql_where=IS_OF_STOCK)

# How far each partition is archived, and its meta hash as of then: moved in the transaction that moves the rows.
positions = Table(
    "positions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("meta", Text, nullable=False),
)

# Every reservation as its last entry leaves it.
reservations = Table(
    "reservations",
    metadata,
    Column("token", Name, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("status", Name, nullable=False),
    Column("agent_id", Name, nullable=False),
    Column("channel", Text, nullable=False),
    Column("reference", Name),
    Column("order_id", Name),
    Column("details", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("first_expires_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("reason", Text, nullable=False),
    Column("holder", Name),
    PrimaryKeyConstraint("created_us", "token", "partition"),
    sqlite_with_rowid=False,
)
NEWEST = (reservations.c.created_us, reservations.c.token)
for name in ("agent_id", "status"):
    Index(f"reservations_by_{name}", reservations.c[name], *NEWEST)
for name in ("reference", "order_id", "holder"):
    IS_NAMED = text(f"{name} IS NOT NULL")
    Index(
        f"reservations_by_{name}",
        reservations.c[name],
        *NEWEST,
        sqlite_where=IS_NAMED,
        postgresql_where=IS_NAMED,
    )

# What each holds or has sold; of an ended one, what it held or had sold at last. `backordered` has no stock behind it.
reservation_lines = Table(
    "reservation_lines",
    metadata,
    Column("token", Name, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("sku", Name, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("backordered", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("sku", "created_us", "token"),
    sqlite_with_rowid=False,
)
IS_BACKORDERED = text("backordered > 0")
Index(
    "reservation_lines_backordered",
    reservation_lines.c.sku,
    reservation_lines.c.sequence,
    sqlite_where=IS_BACKORDERED,
    postgresql_where=IS_BACKORDERED,
)

# What a person should look at of a SKU in an order; one without a name has its reservation's token for one.
order_reviews = Table(
    "order_reviews",
    metadata,
    Column("channel", Name, nullable=False),
    Column("order_id", Name, nullable=False),
    Column("sku", Name, nullable=False),
    Column("kind", Name, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("order_id", "channel", "sku"),
    sqlite_with_rowid=False,
)

# By token both are found through the entry that they began with. Tokens are random, so that in an index of them every
# row has another page to itself: there is one such index, that of the entries.
IS_BEGUN_BY = and_(reservations.c.token == entries.c.token, reservations.c.created_us == entries.c.at_us)
IS_PROMISED_BY = and_(
    reservation_lines.c.token == entries.c.token,
    reservation_lines.c.created_us == entries.c.at_us,
    reservation_lines.c.sku == entries.c.sku,
)

# What has an index and is changed by no entry: SQLite would write the index again, were it set again.
FIXED = frozenset({"agent_id", "reference", "holder"})

# Every SKU as its last entry leaves it.
inventory = Table(
    "current_inventory_by_sku",
    metadata,
    Column("sku", Name, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("on_hand", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("committed", BigInteger, nullable=False),
    Column("backordered", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("safety_stock", BigInteger, nullable=False),
    Column("shortfall", BigInteger, nullable=False),
    Column("policy", Text, nullable=False),
    Column("locations", Text, nullable=False),
    sqlite_with_rowid=False,
)
IS_SHORT = text("shortfall > 0")
Index("inventory_in_shortfall", inventory.c.sku, sqlite_where=IS_SHORT, postgresql_where=IS_SHORT)
