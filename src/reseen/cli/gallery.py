"""Commands about galleries: fill, search, erase, look after."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reseen.cli.parser import Parser, add_command

PLACES = "folder, s3://BUCKET/PREFIX or qdrant://HOST:PORT/NAME"
UTC_HINT = "like 2026-05-01T14:30 (UTC) or 2026-05-01T14:30+02:00"


def embed(commands: Any) -> None:
    text = "features of the persons in crops, scenes and videos, with where and when; resumable"
    parser = add_command(commands, "embed", text)
    _footage(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FEATURES", help="folder to write to")
    parser.add_argument("--resume", action="store_true", help="go on where FEATURES ends")


def index(commands: Any) -> None:
    text = "find the persons in images, scenes or videos and add them to a gallery"
    parser = add_command(commands, "index", text)
    _footage(parser)
    parser.add_argument("--gallery", required=True, metavar="G", help=PLACES)
    parser.add_argument("--resume", action="store_true", help="leave out what the gallery holds already")
    more = "what names of sources begin with, to tell two folders with the same names apart"
    parser.add_argument("--prefix", default="", metavar="NAME", help=more)
    parser.add_argument("--expires", type=float, metavar="DAYS", help="after how many days rows have to go")


def search(commands: Any) -> None:
    parser = add_command(commands, "search", "find the person of an image in a gallery")
    _place(parser)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image of the person")
    more = "where the person is in it, pixels (default: a crop's all, a scene's surest)"
    parser.add_argument("--box", type=float, nargs=4, metavar=("X1", "Y1", "X2", "Y2"), help=more)
    _run(parser)
    parser.add_argument(
        "--cameras", type=int, nargs="+", action="extend", metavar="N", help="seen by these cameras only"
    )
    parser.add_argument(
        "--not-cameras", type=int, nargs="+", action="extend", metavar="N", help="seen by other cameras only"
    )
    parser.add_argument("--after", metavar="TIME", help=f"seen at or after it, {UTC_HINT}")
    parser.add_argument("--before", metavar="TIME", help="seen before it")
    parser.add_argument(
        "--sources", nargs="+", action="extend", metavar="NAME", help="in these files, or below these folders"
    )
    parser.add_argument(
        "--top", type=int, default=10, metavar="K", help="rows or walks to show (default: %(default)s)"
    )
    parser.add_argument("--rerank", action="store_true", help="order the first 200 by common neighbours")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write what is found")


def forget(commands: Any) -> None:
    parser = add_command(commands, "forget", "erase rows of a gallery, and prove that their bytes are gone")
    _place(parser)
    more = "numbers of rows, as reseen search shows them"
    parser.add_argument(
        "--row", type=int, nargs="+", action="extend", default=[], dest="rows", metavar="N", help=more
    )
    more = "a walk through a video, as reseen search shows it"
    parser.add_argument(
        "--track", nargs="+", action="extend", default=[], dest="tracks", metavar="SOURCE#N", help=more
    )
    more = "files, or folders with all below them"
    parser.add_argument(
        "--source", nargs="+", action="extend", default=[], dest="sources", metavar="NAME", help=more
    )
    parser.add_argument("--like", type=Path, metavar="IMAGE", help="who is like the person of an image")
    more = "with --like: who it is with this probability, 0 to 1"
    parser.add_argument("--above", type=float, metavar="P", help=more)
    more = "with --like: who is that similar, -1 to 1, where no probability is known"
    parser.add_argument("--above-similarity", type=float, metavar="S", help=more)
    parser.add_argument("--expired", action="store_true", help="rows whose time has come")
    parser.add_argument("--finish", action="store_true", help="only what a stopped erasure left")
    _run(parser)
    parser.add_argument("--dry-run", action="store_true", help="say who would be erased")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def gallery(commands: Any) -> None:
    parser = add_command(commands, "gallery", "what a gallery holds; a copy of it")
    _place(parser)
    parser.add_argument("--copy-to", metavar="G", help="copy all rows into another folder or address")


def serve(commands: Any) -> None:
    parser = add_command(commands, "serve", "a search page and an HTTP API of a gallery")
    _place(parser)
    _run(parser)
    more = "what finds the persons of a picture, for a model of crops (YOLOX)"
    parser.add_argument("--detector", type=Path, metavar="FILE.onnx", help=more)
    more = "folder that was indexed (with --prefix NAME), to show the scene of a match; repeatable"
    parser.add_argument("--images", action="append", default=[], metavar="[NAME=]PATH", help=more)
    more = "address to listen at; beyond this machine only with a token (default: %(default)s)"
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help=more)
    parser.add_argument("--port", type=int, default=8000, help="0: a free one (default: %(default)s)")
    more = "a name that it may be reached as, behind a proxy; repeatable"
    parser.add_argument("--name", action="append", default=[], dest="names", metavar="HOST", help=more)
    more = "a file with the word that lets people in"
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=more)


def _place(parser: Parser) -> None:
    parser.add_argument("gallery", metavar="G", help=PLACES)


def _run(parser: Parser) -> None:
    more = "the model (default: where it was when the gallery was indexed)"
    parser.add_argument("--run", type=Path, metavar="RUN", help=more)


def _footage(parser: Parser) -> None:
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
