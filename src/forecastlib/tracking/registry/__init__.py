"""MLflow's model registry: a registered model for each symbol, its versions, and which of them is champion.

- :mod:`~forecastlib.tracking.registry.versions` registers, finds and loads versions.
- :mod:`~forecastlib.tracking.registry.champions` says which is champion, who was it before, and goes back to one of them.
"""

from forecastlib.tracking.registry.champions import CHALLENGER, challenge, history, promote, roll_back, turn
from forecastlib.tracking.registry.versions import (
    CHAMPION,
    SERVED_MODEL,
    SERVED_REQUIREMENTS,
    SOURCE_TREE,
    VERSION_TAG,
    Registered,
    config_digest,
    config_of,
    find,
    load,
    model_name,
    register,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "SERVED_MODEL",
    "SERVED_REQUIREMENTS",
    "SOURCE_TREE",
    "VERSION_TAG",
    "Registered",
    "challenge",
    "config_digest",
    "config_of",
    "find",
    "history",
    "load",
    "model_name",
    "promote",
    "register",
    "roll_back",
    "turn",
]
