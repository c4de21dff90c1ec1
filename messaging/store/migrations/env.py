"""Alembic's entry point: runs the migrations on the connection and in the transaction of `migrate.py`."""

from alembic import context

from messaging.store import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata)
with context.begin_transaction():
    context.run_migrations()
