"""Models: everything that forecasts."""
