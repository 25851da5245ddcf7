"""The network: its recurrent layer, its architecture and its training."""

from forecastlib.network.recurrent import FastLSTM

__all__ = ["FastLSTM"]
