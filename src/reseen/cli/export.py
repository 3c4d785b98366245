"""The command that hands a model to other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reseen.cli.parser import add_command


def export(commands: Any) -> None:
    def load() -> Callable[..., object]:
        from reseen.commands.export import export

        return export

    text = "a trained model for other programs: ONNX, a folder for a model hub, or features for FiftyOne"
    parser = add_command(commands, "export", text, load)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or checkpoint file")
    parser.add_argument(
        "--format", choices=("onnx", "hub", "fiftyone"), metavar="FORMAT", required=True, help="%(choices)s"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: RUN/FORMAT)")
    more = "of the weights, written into what is exported, e.g. apache-2.0 (default: not stated)"
    parser.add_argument("--licence", default=argparse.SUPPRESS, metavar="NAME", help=more)
    more = "fiftyone: what reseen embed RUN PATH --out FEATURES wrote"
    parser.add_argument("--features", type=Path, metavar="FEATURES", help=more)
    parser.add_argument("--images", type=Path, metavar="PATH", help="fiftyone: the folder that was embedded")
