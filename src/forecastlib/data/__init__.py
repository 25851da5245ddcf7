"""Prices: where they come from, what they look like, and whether they can be trusted."""
