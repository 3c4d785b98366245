"""``reseen embed`` in words."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reseen.cli.parser import Parser, add_command


def embed(commands: Any) -> None:
    def load() -> Callable[..., object]:
        from reseen.commands.embed import embed

        return embed

    text = "features of the persons in crops, scenes and videos, with where and when; resumable"
    parser = add_command(commands, "embed", text, load)
    footage_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FEATURES", help="folder to write to")
    parser.add_argument("--resume", action="store_true", help="go on where FEATURES ends")


def footage_options(parser: Parser) -> None:
    """What is looked at, by which model, and how: the words that `embed` and `index` share."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or checkpoint file")
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="folder of crops, scenes or videos; data set, CSV manifest or COCO .json; or one file",
    )
    more = "finds the persons, in place of RUN: a YOLOX model (the extra [export])"
    parser.add_argument("--detector", type=Path, metavar="FILE.onnx", help=more)
    more = "persons are where PATH's own annotations say: COCO .json, PRW, CUHK-SYSU"
    parser.add_argument("--annotated", action="store_true", help=more)
    more = "of a detected person (default: 0.5, with --detector 0.3)"
    parser.add_argument("--min-score", type=float, metavar="P", help=more)
    more = "between the frames of a video that are looked at, e.g. 0.5s (default), 2s"
    parser.add_argument("--every", type=_seconds, default=0.5, metavar="TIME", help=more)
    more = "of those frames only the ones that a decoder reads alone: far quicker"
    parser.add_argument("--keyframes", action="store_true", help=more)
    more = "where file names hold the camera, e.g. 'cam(\\d+)'"
    parser.add_argument("--camera-pattern", metavar="REGEX", help=more)
    more = "where file names hold the time at which they begin, e.g. '(\\d{8}_\\d{6})' (UTC)"
    parser.add_argument("--time-pattern", metavar="REGEX", help=more)


def _seconds(word: str) -> float:
    try:
        return float(word.removesuffix("s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no time in seconds, like 0.5s") from None
