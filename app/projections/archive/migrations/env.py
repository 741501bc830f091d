"""How Alembic runs the migrations: on the connection it is handed, in the transaction that is open there."""

from alembic import context

from app.projections.archive.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
