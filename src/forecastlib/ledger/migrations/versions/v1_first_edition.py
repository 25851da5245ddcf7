"""Create the tables, or complete those of a ledger that was written before it was migrated with Alembic.

Such a ledger has a table ``ledger_schema`` with the number of each step below that has been applied.
"""

from itertools import chain

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

STEPS = (
    (
        """CREATE TABLE forecasts (
            symbol TEXT NOT NULL, origin DATE NOT NULL, horizon INTEGER NOT NULL, model_version TEXT NOT NULL,
            target_date DATE NOT NULL, direction TEXT NOT NULL, batch_id TEXT NOT NULL,
            last_close DOUBLE PRECISION NOT NULL, predicted_price DOUBLE PRECISION NOT NULL,
            change_pct DOUBLE PRECISION NOT NULL, lower_80 DOUBLE PRECISION, upper_80 DOUBLE PRECISION,
            lower_95 DOUBLE PRECISION, upper_95 DOUBLE PRECISION, p_up DOUBLE PRECISION, p_down DOUBLE PRECISION,
            confidence DOUBLE PRECISION, requested_by TEXT, recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
            actual_price DOUBLE PRECISION, settled_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (symbol, origin, horizon, model_version))""",
        "CREATE INDEX forecasts_by_time ON forecasts (recorded_at)",
    ),
    # Several users may request the same forecast; each finds it among their own.
    (
        """CREATE TABLE requests (
            requested_by TEXT NOT NULL, symbol TEXT NOT NULL, origin DATE NOT NULL, horizon INTEGER NOT NULL,
            model_version TEXT NOT NULL, PRIMARY KEY (requested_by, symbol, origin, horizon, model_version))""",
        """INSERT INTO requests SELECT requested_by, symbol, origin, horizon, model_version
            FROM forecasts WHERE requested_by IS NOT NULL""",
    ),
    # The threshold within which a neutral call counts as correct; NULL where it was not recorded.
    ("ALTER TABLE forecasts ADD COLUMN direction_threshold DOUBLE PRECISION",),
    # The last session of the prices that a forecast was made from; NULL where it was not recorded.
    ("ALTER TABLE forecasts ADD COLUMN known_until DATE",),
)


def upgrade() -> None:
    """Apply the steps that have not been applied yet."""
    op.execute("CREATE TABLE IF NOT EXISTS ledger_schema (version INTEGER PRIMARY KEY)")
    applied = op.get_bind().execute(sa.text("SELECT max(version) FROM ledger_schema")).scalar() or 0
    for statement in chain.from_iterable(STEPS[applied:]):
        op.execute(statement)
    # The first edition reads only this table, and refuses a version later than its own with a clear message.
    op.execute(f"INSERT INTO ledger_schema VALUES ({len(STEPS) + 1})")
