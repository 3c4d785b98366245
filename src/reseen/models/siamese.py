"""Two branches of one encoder and their predictors: the networks of CACL and CSCL."""

from __future__ import annotations

import copy

from torch import nn

from reseen.config import Config
from reseen.models.encoders import Encoder, build_predictor


class Siamese(nn.Module):
    """F, F', the predictor G on the first branch and, in CSCL only, G' on the second. Absent parts are None."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        both = config.loss.branches == "both"
        self.second = copy.deepcopy(encoder)
        self.first = encoder if both else None
        self.predictor = build_predictor(config.model, encoder.dim) if both else None
        self.second_predictor = build_predictor(config.model, encoder.dim) if config.loss.symmetric else None

    def shipped(self) -> Encoder:
        """F, which is evaluated (Algorithm 1, line 9); alone (Table 3, first row), F' is."""
        return self.first or self.second
