"""Add the name of the model and the consistency of a forecast; NULL where they were not recorded."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("forecasts", sa.Column("model", sa.Text))
    op.add_column("forecasts", sa.Column("consistency", sa.Double))
