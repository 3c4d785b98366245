"""The command line: sub-commands to functions, no logic. torch is imported only when a command runs.

argparse rather than jsonargparse here: help has to appear at once, and ``--set`` repeats. The typed part, the
configuration, goes through jsonargparse in :mod:`reseen.config`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reseen import __version__
from reseen.cli import data, gallery
from reseen.cli.parser import Parser, add_command, add_patterns, add_settings
from reseen.errors import ReseenError

USAGE_ERROR = 2
SHARED = ("train", "embed")  # by the processes that torchrun starts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for anything the user can mend, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parsed = _parser().parse_args(words)
        if parsed.command is None:
            _parser().print_help()
            return 0
        if "TORCHELASTIC_RUN_ID" in os.environ and parsed.command not in SHARED:  # torchrun's
            raise ReseenError(f"reseen {parsed.command} runs in one process: start it without torchrun")
        run = _function_of(parsed.command)
        run(**{key: value for key, value in vars(parsed).items() if key != "command"})
        return 0
    except ReseenError as error:
        print(f"reseen: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:  # no permission, a full disk: whatever was half written has a temporary name
        print(f"reseen: {error.filename or 'the disk'}: {error.strerror or error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("reseen: stopped; train and embed go on with --resume", file=sys.stderr)
        return 130


def _function_of(command: str) -> Callable[..., object]:
    """What does it. Imported now: torch takes seconds, and some commands need packages that others do not."""
    run: Callable[..., object]
    match command:
        case "demo":
            from reseen.commands.demo_search import demo_of_either as run
        case "train":
            from reseen.commands.train import train as run
        case "evaluate":
            from reseen.commands.evaluate import evaluate_run_or_file as run
        case "cluster":
            from reseen.commands.cluster import cluster as run
        case "embed":
            from reseen.commands.embed import embed as run
        case "reproduce":
            from reseen.reproduce import reproduce_or_list as run
        case "report":
            from reseen.commands.report import report as run
        case "bench":
            from reseen.commands.bench import bench as run
        case "index":
            from reseen.commands.index import index as run
        case "search":
            from reseen.commands.search import search as run
        case "forget":
            from reseen.commands.forget import forget as run
        case "gallery":
            from reseen.commands.gallery import gallery as run
        case "serve":
            from reseen.commands.serve import serve as run
        case "compose":
            from reseen.commands.compose import compose_scenes as run
        case "split":
            from reseen.commands.split import split as run
        case "doctor":
            from reseen.commands.doctor import doctor as run
        case "export":
            from reseen.commands.export import export as run
    return run


def _parser() -> Parser:
    parser = Parser(
        prog="reseen",
        description="Find the same person again, with models trained on images nobody labelled.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"reseen {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _demo(commands)
    _train(commands)
    _evaluate(commands)
    _cluster(commands)
    gallery.embed(commands)
    _reproduce(commands)
    _report(commands)
    _bench(commands)
    gallery.index(commands)
    gallery.search(commands)
    gallery.forget(commands)
    gallery.gallery(commands)
    gallery.serve(commands)
    data.compose(commands)
    data.split(commands)
    data.doctor(commands)
    _export(commands)
    return parser


def _data_options(parser: Parser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="data set folder, folder of images, CSV manifest; folder of scenes with boxes, or COCO .json",
    )
    add_patterns(parser)


def _test_on(parser: Parser) -> None:
    more = "crops: query and gallery, or those made of the validation part (default: %(default)s)"
    parser.add_argument("--test-on", choices=("test", "validation"), default="test", help=more)


def _demo(commands: Any) -> None:
    parser = add_command(
        commands, "demo", "train CACL on a drawn street, compare honestly, write a picture report"
    )
    parser.add_argument(
        "--search", action="store_true", help="person search instead: R-SiamNet on drawn scenes"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="run folder (default: runs/demo, or runs/demo-search)"
    )
    parser.add_argument(
        "--seed", type=int, default=3, help="seed of street and training (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="continue where the demo stopped")


def _train(commands: Any) -> None:
    parser = add_command(commands, "train", "train a model on images that nobody labelled")
    parser.add_argument(
        "method",
        metavar="METHOD",
        help="cacl, cscl, spcl, cluster-contrast (crops); r-siamnet, two-step (scenes)",
    )
    _data_options(parser)
    more = "scenes: one more data set to train on; --data is tested on; repeatable"
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="PATH", help=more)
    parser.add_argument("--share", type=float, default=1.0, help="scenes: train on this share (default: all)")
    _test_on(parser)
    more = "allow pictures that are trained on and tested on, too: scores then say little"
    parser.add_argument("--train-on-test", action="store_true", help=more)
    parser.add_argument("--run", type=Path, metavar="DIR", help="run folder (default: runs/RECIPE-DATA)")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run folder's last checkpoint, if any"
    )
    parser.add_argument(
        "--weights",
        help="imagenet (downloaded by timm), lite (from the extra [weights]; EfficientNet-Lite0), none, a run folder "
        "or checkpoint to go on from, or another file (default: the recipe's, imagenet)",
    )
    parser.add_argument("--recipe", help="named settings, e.g. cacl-strong (default: METHOD)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file of settings, applied after the recipe"
    )
    add_settings(parser, "one setting, e.g. train.epochs=20; repeatable")


def _evaluate(commands: Any) -> None:
    parser = add_command(commands, "evaluate", "score a trained model by the benchmark's own protocol")
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="run folder or checkpoint file")
    _data_options(parser)
    _test_on(parser)
    parser.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="features instead: a folder of reseen embed, or another model's .npz with query, gallery and their names",
    )
    parser.add_argument(
        "--epoch",
        choices=("last", "best-on-test", "label-free"),
        default="last",
        help="which checkpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--branch", choices=("first", "second"), help="which branch (default: the one that is shipped)"
    )
    parser.add_argument(
        "--view", choices=("colour", "grey"), help="what the branch is shown (default: as it was trained)"
    )
    parser.add_argument("--rerank", action="store_true", help="score again after k-reciprocal re-ranking")
    text = "CSV of what was found for each query; without a test part each image is one"
    parser.add_argument("--lists", type=Path, metavar="FILE", help=text)
    parser.add_argument("--top", type=int, metavar="N", help="images of a list (default: 10)")
    text = "images to search for in those of --data, nobody knowing who is who (with --lists)"
    parser.add_argument("--queries", type=Path, metavar="PATH", help=text)
    parser.add_argument(
        "--protocol",
        choices=("cross-camera", "same-camera"),
        help="crops: what answers a query. same-camera: any other picture of the person, for one camera or unknown "
        "ones (default: cross-camera, as benchmarks do)",
    )
    parser.add_argument(
        "--gallery-size",
        type=int,
        action="append",
        dest="gallery_sizes",
        metavar="N",
        help="scenes: images of a gallery, 50 to 4000 (CUHK-SYSU); repeatable",
    )
    parser.add_argument(
        "--paths",
        choices=("search", "both"),
        help="scenes: features of the search path alone, or of both (default: as configured)",
    )


def _cluster(commands: Any) -> None:
    parser = add_command(
        commands, "cluster", "group images by person; writes a CSV of path, group, camera, probability"
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or checkpoint file")
    _data_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("groups.csv"),
        metavar="FILE",
        help="CSV to write (default: %(default)s)",
    )
    parser.add_argument("--eps", type=float, help="DBSCAN radius (default: the run's)")


def _reproduce(commands: Any) -> None:
    parser = add_command(
        commands, "reproduce", "a table or figure of the papers, ours beside theirs; resumable"
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="cacl-table1 to r-siamnet-figure6; without it: the list"
    )
    parser.add_argument("--list", action="store_true", dest="show", help="what there is and what it needs")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="data set, or `street` for the drawn one; repeatable where a table has several",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings of each row (default: %(default)s)"
    )
    parser.add_argument(
        "--scale",
        choices=("full", "small"),
        default="full",
        help="as published, or small networks for two CPU cores (default: %(default)s)",
    )
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("runs/reproduce"),
        metavar="DIR",
        help="where rows and tables are kept; processes that share it divide the rows (default: %(default)s)",
    )
    parser.add_argument("--weights", help="imagenet, lite, none, or a file (default: by the scale)")
    parser.add_argument(
        "--row",
        action="append",
        default=[],
        dest="rows",
        metavar="ROW",
        help="train this row only; repeatable",
    )
    add_settings(parser, "one setting of every row; repeatable")


def _report(commands: Any) -> None:
    parser = add_command(
        commands, "report", "pictures of a run: curves, ranked lists, search results; an HTML page"
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="the data set, for ranked lists and augmentation"
    )


def _bench(commands: Any) -> None:
    parser = add_command(commands, "bench", "how fast this machine clusters, evaluates and trains")
    parser.add_argument(
        "what", metavar="WHAT", choices=("clustering", "evaluation", "training"), help="%(choices)s"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="images to cluster, of the gallery, or to train on (default: quick)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add_settings(parser, "one setting of clustering or training, e.g. model.backbone=densenet121; repeatable")


def _export(commands: Any) -> None:
    text = "a trained model for other programs: ONNX, a folder for a model hub, or features for FiftyOne"
    parser = add_command(commands, "export", text)
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
