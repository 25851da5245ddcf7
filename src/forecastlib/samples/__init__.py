"""Samples: windows and labels, sets divided by time, scalers."""
