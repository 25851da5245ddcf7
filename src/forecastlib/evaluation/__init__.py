"""Evaluation: metrics, significance, scores of a test set and of a walk-forward backtest."""
