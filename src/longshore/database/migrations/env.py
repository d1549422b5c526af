"""Run by Alembic: takes the steps in the transaction that ``schema.migrate`` is in."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
