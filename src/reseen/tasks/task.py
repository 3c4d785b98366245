"""What a task changes: crops of persons, whole scenes, or scenes in two steps. What a paper changes is a Method.

A command looks its task up once (:func:`reseen.tasks.task_of`, :func:`reseen.tasks.task_of_run`) and asks it for the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from reseen.config import Config
from reseen.distributed import Ranks
from reseen.errors import ReseenError
from reseen.evaluation.lists import Lists
from reseen.evaluation.protocol import CROSS_CAMERA
from reseen.files import append_json
from reseen.progress import Progress
from reseen.tasks.calibrated import Calibrated
from reseen.tasks.pictures import Picture
from reseen.training.run_folder import EVALUATIONS

C = TypeVar("C")  # Config, or one for each of two steps
D = TypeVar("D")  # ReidData or SearchData
Calibrate = Callable[[Path, Any, Progress], Calibrated]


@dataclass(frozen=True)
class Settings:
    """What a command was told about a run's settings. A resumed run without any of them takes its own."""

    recipe: str | None = None
    config: Path | None = None
    settings: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing was said but, perhaps, the weights."""
        return self.recipe is None and self.config is None and not self.settings


@dataclass(frozen=True)
class Reading:
    """How data is read, for crops: ``camera_pattern``, ``identity_pattern``, ``test_on`` (test, or validation instead).

    For scenes: further training sets and a share of all of them. For both ``train_on_test``: whether a picture may be
    trained on and tested on; None where nothing is trained, and so nobody looks.
    """

    camera_pattern: str | None = None
    identity_pattern: str | None = None
    test_on: str = "test"
    also: tuple[Path, ...] = ()
    share: float = 1.0
    train_on_test: bool | None = None


USUAL = Reading()


@dataclass(frozen=True)
class Scoring:
    """How a model is scored.

    ``epoch``: ``last``, ``best-on-test`` (chosen on the test set, as the papers do) or ``label-free``. For crops:
    ``branch`` (None = the one that is shipped), ``view`` (None = grey for the second branch of a grey-trained model,
    else colour), ``rerank`` (once more, after re-ranking) and ``protocol`` (see :mod:`reseen.evaluation.protocol`). For
    scenes: ``gallery_sizes`` (CUHK-SYSU: 50 to 4,000;
    none = the usual one) and ``paths`` (None = as configured).
    """

    epoch: str = "last"
    branch: str | None = None
    view: Literal["colour", "grey"] | None = None
    rerank: bool = False
    protocol: str = CROSS_CAMERA
    gallery_sizes: tuple[int, ...] = ()
    paths: Literal["search", "both"] | None = None


@dataclass(frozen=True)
class Scored:
    """A model scored once.

    ``scores`` are the fractions that result files keep (``mean_ap``, ``rank<k>`` or ``top<k>``, ...), ``result`` what
    evaluation returned, ``average_precision`` ``[Q]`` of each query (nan: no valid match), ``lines`` the same for
    people, ``log`` one record for each line of evaluations.jsonl, ``lists`` what was found for each query.
    """

    scores: Mapping[str, Any]
    result: Any
    average_precision: NDArray[np.float64]
    lines: tuple[str, ...]
    log: tuple[Mapping[str, Any], ...]
    lists: Lists | None = None


@dataclass(frozen=True, kw_only=True)
class Task(Generic[C, D]):
    """A record of functions; ``options`` are the words of the command line that only some tasks understand."""

    name: str
    methods: tuple[str, ...]  # as the command line names them
    options: frozenset[str]
    configure: Callable[[str, Path, bool, Settings], C]  # (method, run_dir, resume, settings)
    open: Callable[[Path, str, Reading], D]  # (data, who asks for it, how)
    usable: Callable[
        [D, float, Progress, Ranks], D
    ]  # without what cannot be read: (data, max_bad_share, ...)
    steps: Callable[[C], tuple[Config, ...]]  # the configuration of each run in it
    begin: Callable[[C, Sequence[str]], C]  # with other weights, of each step
    train: Callable[[C, D, Path, bool, Ranks], object]  # (config, data, run_dir, resume, ranks)
    tested: Callable[[D], bool]  # whether there is something to score on
    check_test: Callable[[D, Scoring], object]  # raises ReseenError for data that cannot be scored so
    score: Callable[[Path, D, Scoring, Progress], list[Scored]]  # (run_dir or checkpoint file, ...)
    rank: Callable[
        [Path, D, D | None, Scoring, Progress], Lists
    ]  # (..., data, queries, ...): nobody knows who is who
    trained: Callable[[Path, str], C]  # the configuration of a run folder's epoch (see Scoring), or of a file
    pictures: Callable[[Path, D, Progress], Sequence[Picture]]  # (run_dir, ...): what a report can show of it
    calibrate: Calibrate | None = None  # how sure it is; raises where it cannot be
    # Runs inside of a run, with their data.
    parts: Callable[[Path, D], Sequence[tuple[Path, Any]]] = lambda run_dir, data: ()


def max_bad_share(task: Task[C, Any], config: C) -> float:
    """Share of unreadable images that is skipped, as the first step has it."""
    return task.steps(config)[0].data.max_bad_share


def announce(scored: Scored, source: Path) -> None:
    """Print what was scored, and keep it in evaluations.jsonl where ``source`` is a run folder."""
    if source.is_dir():
        append_json(source / EVALUATIONS, scored.log)
    print("\n".join(scored.lines))


def refuse_options(task: Task[Any, Any], whom: str, given: Mapping[str, object]) -> None:
    """Raise ReseenError for an option that was given and that ``task`` does not understand."""
    for name, value in given.items():
        if value and name not in task.options:
            raise ReseenError(f"--{name.replace('_', '-')} is not for {whom}: leave it out")
