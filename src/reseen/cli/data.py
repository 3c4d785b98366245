"""Commands about data: what a folder holds, what is held out of it, what is made from it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reseen.cli.parser import add_command, add_patterns, add_settings


def compose(commands: Any) -> None:
    text = "paste real crops of people into drawn scenes, in PRW's layout; the result is a composite: say so"
    parser = add_command(commands, "compose", text)
    parser.add_argument("crops", type=Path, metavar="CROPS", help="folder of crops like Market-1501's")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    unset = argparse.SUPPRESS  # what is not given is left to Composition
    for name in ("--seed", "--train-scenes", "--test-scenes"):
        parser.add_argument(name, type=int, metavar="N", default=unset)
    for name in ("--train-identities", "--test-identities"):
        parser.add_argument(name, type=int, metavar="N", default=unset, help="that take part (default: all)")
    more = "of scenes, pixels; repeatable: goes round the cameras"
    parser.add_argument("--size", action="append", dest="sizes", default=unset, metavar="WxH", help=more)
    parser.add_argument(
        "--persons", type=int, nargs=2, default=unset, metavar=("FEWEST", "MOST"), help="in a scene"
    )
    share = "of two persons, as a share of the smaller box"
    parser.add_argument("--max-overlap", type=float, default=unset, metavar="SHARE", help=share)
    parser.add_argument("--background", choices=("street", "plain"), default=unset)


def split(commands: Any) -> None:
    text = "training, validation, query and gallery of labelled images: a manifest for --data"
    parser = add_command(commands, "split", text)
    parser.add_argument("data", type=Path, metavar="PATH", help="labelled data set of crops")
    parser.add_argument(
        "--out", type=Path, default=Path("split.csv"), metavar="FILE", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--queries", type=int, metavar="N", help="of each tested person under each camera (default: 1)"
    )
    more = "share of the persons who are tested, where there is no test part (default: 0.3)"
    parser.add_argument("--test", type=float, metavar="SHARE", help=more)
    more = "share of the persons for --test-on validation (default: 0.1; 0: none)"
    parser.add_argument("--validation", type=float, metavar="SHARE", help=more)
    parser.add_argument("--seed", type=int, metavar="N", help="who is drawn (default: 0)")
    more = "instead: the last N training identities are query and gallery; nothing else is tested"
    parser.add_argument("--held-out", type=int, metavar="N", help=more)
    parser.add_argument(
        "--identities", type=int, metavar="N", help="with it: train on the first N others only"
    )
    add_patterns(parser)


def doctor(commands: Any) -> None:
    parser = add_command(commands, "doctor", "what this machine has, and what a data folder holds or lacks")
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        metavar="PATH",
        help="data set folder, folder of images, or CSV manifest",
    )
    more = "also train a few steps on these images, and say how long a training takes here"
    parser.add_argument("--time", action="store_true", dest="timed", help=more)
    add_settings(parser, "one setting of that training; repeatable")
    add_patterns(parser)
