"""Technical features of one symbol: 152 columns a session, computed from open, high, low, close and volume alone."""

from forecastlib.features.catalogue import CATALOGUE, GROUPS, catalogue, choose_features, compute_features, warm_up

__all__ = ["CATALOGUE", "GROUPS", "catalogue", "choose_features", "compute_features", "warm_up"]
