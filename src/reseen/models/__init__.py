"""Encoders, their batch norm, weights and precision. :mod:`reseen.models.embedding` embeds many crops."""

from reseen.device import autocast, resolve_device, resolve_precision
from reseen.models.batchnorm import convert
from reseen.models.encoders import Encoder, EncoderOutput, Predictor, build_encoder, build_predictor
from reseen.models.weights import WeightsReport, load_weights

__all__ = [
    "Encoder",
    "EncoderOutput",
    "Predictor",
    "WeightsReport",
    "autocast",
    "build_encoder",
    "build_predictor",
    "convert",
    "load_weights",
    "resolve_device",
    "resolve_precision",
]
