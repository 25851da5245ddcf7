"""Run by Alembic to migrate a ledger, within the transaction that ``forecastlib.ledger.tables.migrate`` opens."""

from alembic import context

from forecastlib.ledger.tables import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
