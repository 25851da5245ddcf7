"""The network: its recurrent layer, its architecture, its training, and calling it once it is trained."""

from forecastlib.network.architecture import (
    INPUT_NAME,
    build_network,
    compile_network,
    output_name,
    stochastic_twin,
)
from forecastlib.network.inference import NetworkCaller
from forecastlib.network.recurrent import FastLSTM
from forecastlib.network.training import TrainingData, fit_network

__all__ = [
    "INPUT_NAME",
    "FastLSTM",
    "NetworkCaller",
    "TrainingData",
    "build_network",
    "compile_network",
    "fit_network",
    "output_name",
    "stochastic_twin",
]
