"""The epoch, the run, checkpoints. Training is handed a method and never imports one."""

from reseen.models.checkpoint import LAST, Checkpoint, read_checkpoint, trained_config
from reseen.training.epoch import EpochStats, train_epoch
from reseen.training.fit import LABEL_FREE, START, chosen_epochs, fit, new_run
from reseen.training.run import Method, Run
from reseen.training.warmup import warm_up

__all__ = [
    "LABEL_FREE",
    "LAST",
    "START",
    "Checkpoint",
    "EpochStats",
    "Method",
    "Run",
    "chosen_epochs",
    "fit",
    "new_run",
    "read_checkpoint",
    "train_epoch",
    "trained_config",
    "warm_up",
]
