"""Progress for people: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

LOG_SECONDS = 30.0  # between lines about one stage when nobody watches a terminal


class Progress:
    """Bars while it is entered; ``say`` prints a line above them. ``quiet``: neither."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(soft_wrap=True, highlight=False, quiet=quiet)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._logged = time.perf_counter()
        self._begun = (self._logged, 0)  # when the stage began, and how much was done then

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """One bar for the stage that runs now; in a log, a line now and then."""
        if stage != self._stage or self._task is None or done == 0:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task, self._stage = self._bars.add_task(stage, total=total, note=note), stage
            self._logged, self._begun = time.perf_counter(), (time.perf_counter(), done)
        self._bars.update(self._task, completed=done, total=total, note=note)
        if not self.console.is_terminal and time.perf_counter() - self._logged > LOG_SECONDS:
            self._logged = time.perf_counter()
            self.say(f"  {stage} {done}/{total}{self._left(done, total)} {note}".rstrip())

    def _left(self, done: int, total: int) -> str:
        """What the rest takes at the rate so far."""
        began, before = self._begun
        if done <= before:
            return ""
        seconds = (time.perf_counter() - began) / (done - before) * (total - done)
        return f", {timedelta(seconds=round(seconds))} left"

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """``(done, total)`` for a function that counts."""
        return lambda done, total: self.step(stage, done, total)

    def counted(self, stage: str, total: int) -> Callable[[int], None]:
        """``(done)`` for a function that counts up to ``total``."""
        return lambda done: self.step(stage, done, total)
