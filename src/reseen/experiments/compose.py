"""``python -m reseen.experiments.compose``: a composite person search data set from a folder of crops."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reseen.data.composer import Composition, compose
from reseen.errors import ReseenError
from reseen.experiments.progress import Progress
from reseen.records import SearchData


def compose_scenes(crops: Path, out: Path, composition: Composition) -> SearchData:
    """:func:`reseen.data.composer.compose` with a bar, and a line about what came of it."""
    with Progress() as progress:
        data = compose(crops, out, composition, progress=progress.counter("compose scenes"))
    print(
        f"{out}: {data.name}, {len(data.train):,} training scenes with {data.train_boxes:,} persons, "
        f"{len(data.test):,} test scenes, {len(data.probes):,} queries"
    )
    return data


def main() -> int:
    """Exit code 2 and one line for what the user can mend, as the commands of ``reseen``."""
    default = Composition()
    parser = argparse.ArgumentParser(
        prog="python -m reseen.experiments.compose",
        description="Paste real crops of people into drawn scenes, in PRW's layout. The result is a composite: say so.",
    )
    parser.add_argument("crops", type=Path, help="folder of crops like Market-1501's")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--train-scenes", type=int, default=default.train_scenes)
    parser.add_argument("--test-scenes", type=int, default=default.test_scenes)
    parser.add_argument("--train-identities", type=int)
    parser.add_argument("--test-identities", type=int)
    parser.add_argument(
        "--size",
        type=_size,
        action="append",
        dest="sizes",
        metavar="WxH",
        help="repeatable: goes round the cameras",
    )
    parser.add_argument("--persons", type=int, nargs=2, default=default.persons, metavar=("FEWEST", "MOST"))
    parser.add_argument("--max-overlap", type=float, default=default.max_overlap)
    parser.add_argument("--background", choices=("street", "plain"), default=default.background)
    given = vars(parser.parse_args())
    crops, out = given.pop("crops"), given.pop("out")
    given["sizes"], given["persons"] = tuple(given["sizes"] or default.sizes), tuple(given["persons"])
    try:
        compose_scenes(crops, out, Composition(**given))
    except (ReseenError, OSError) as error:
        print(f"reseen: {error}", file=sys.stderr)
        return 2
    return 0


def _size(word: str) -> tuple[int, int]:
    width, _, height = word.lower().partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    sys.exit(main())
