"""The multi-output LSTM: layer, optimizer, network, training and inference."""

from importlib import import_module
from importlib.util import find_spec

# TensorFlow exports the symbols of a libcurl that it bundles. If it is loaded before curl_cffi (extra `yahoo`),
# curl_cffi calls that one instead of its own, and every request to Yahoo fails. So curl_cffi must be imported first.
if find_spec("curl_cffi") is not None:
    import_module("curl_cffi")

from forecastlib.models.lstm.inference import NetworkCaller
from forecastlib.models.lstm.layer import FastLSTM, with_lstm_class
from forecastlib.models.lstm.network import INPUT_NAME, build_network, compile_network, output_name
from forecastlib.models.lstm.optimizer import FastAdam
from forecastlib.models.lstm.training import TrainingData, fit_network

__all__ = [
    "INPUT_NAME",
    "FastAdam",
    "FastLSTM",
    "NetworkCaller",
    "TrainingData",
    "build_network",
    "compile_network",
    "fit_network",
    "output_name",
    "with_lstm_class",
]
