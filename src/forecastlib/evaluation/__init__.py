"""Evaluation: scores of forecasts, tests of their differences, and the walk-forward backtest."""
