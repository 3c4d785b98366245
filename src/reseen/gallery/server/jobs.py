"""Work that takes longer than an answer may: one job after the other, in a thread of its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from reseen.errors import ReseenError
from reseen.gallery.server.problems import LOG, ProblemError, problem_of
from reseen.gallery.server.schemas import JobBody as Job

KEPT = 100  # jobs whose end can be asked for
WAITING = 10  # that may wait


class Jobs:
    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "job")

    def start(self, kind: Literal["groups", "forget"], work: Callable[[], str]) -> Job:
        """Do ``work`` when those before it are done; it returns the detail.

        Raises:
            ProblemError: many wait already.
        """
        job = Job(job=secrets.token_urlsafe(16), kind=kind, state="waiting", detail="")
        with self._lock:
            unfinished = [one for one in self._jobs.values() if one.state in ("waiting", "running")]
            if len(unfinished) >= WAITING:
                raise ProblemError(503, f"{len(unfinished)} jobs wait already: try again when they are done")
            for name in list(self._jobs)[: max(0, len(self._jobs) + 1 - KEPT)]:
                del self._jobs[name]
            self._jobs[job.job] = job
        self._worker.submit(self._do, job, work)
        return job

    def get(self, name: str) -> Job:
        job = self._jobs.get(name)
        if job is None:
            raise ProblemError(404, "there is no such job: the last ones are kept until the server stops")
        return job

    def close(self) -> None:
        """Wait for the job that runs (an erasure is not cut short); those that wait do not begin."""
        self._worker.shutdown(cancel_futures=True)

    def _do(self, job: Job, work: Callable[[], str]) -> None:
        job.state = "running"
        try:
            job.detail = work()  # before the state: whoever sees the end sees how
            job.state = "done"
        except Exception as error:  # whatever it is: nobody waits for this thread, its job would run for ever
            if not isinstance(error, ProblemError | ReseenError):
                LOG.exception("a job failed")
            job.detail = problem_of(error).detail
            job.state = "failed"
