"""Alembic's entry: runs the migrations on the connection, and in the transaction, that `migrate.py` hands over."""

from alembic import context

from messaging.store import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata)
with context.begin_transaction():
    context.run_migrations()
