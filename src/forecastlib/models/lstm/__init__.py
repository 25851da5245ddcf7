"""The network: its recurrent layer, its architecture, its training, and calling it once it is trained."""

from importlib import import_module
from importlib.util import find_spec

# TensorFlow exports symbols of a libcurl of its own. Loaded before curl_cffi, which the extra `yahoo` brings, it makes
# that one call the wrong library, and every request to Yahoo fails. So curl_cffi, where it is there, has to come first.
if find_spec("curl_cffi") is not None:
    import_module("curl_cffi")

from forecastlib.models.lstm.architecture import (
    INPUT_NAME,
    build_network,
    compile_network,
    output_name,
    stochastic_twin,
)
from forecastlib.models.lstm.ensemble import fit_together
from forecastlib.models.lstm.inference import NetworkCaller
from forecastlib.models.lstm.recurrent import FastLSTM
from forecastlib.models.lstm.training import TrainingData, fit_network

__all__ = [
    "INPUT_NAME",
    "FastLSTM",
    "NetworkCaller",
    "TrainingData",
    "build_network",
    "compile_network",
    "fit_network",
    "fit_together",
    "output_name",
    "stochastic_twin",
]
