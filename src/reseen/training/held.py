"""One job trains into a run folder, and notices when the folder is taken away from under it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.files import claimed

LOCK = "run.lock"  # empty; what counts is who holds it


@contextmanager
def held(run_dir: Path, ranks: Ranks = ALONE) -> Iterator[Callable[[], None]]:
    """Train into ``run_dir`` as the only job; the system lets go when the process ends, however it ends.

    Yields:
        A check, for the first process, that the folder is still the one that was taken.

    Raises:
        ReseenError: another job trains into it; the check: it was removed, moved or made anew meanwhile.
    """
    with ExitStack() as stack:

        def take() -> None:
            if not stack.enter_context(claimed(run_dir / LOCK, wait=False)):
                raise ReseenError(
                    f"{run_dir} is being trained by another process: wait until it ends, or choose another --run"
                )
            stack.callback(_leave_nothing, run_dir)  # while it is ours

        ranks.broadcast(take)
        taken = _identity(run_dir / LOCK)

        def check() -> None:
            if _identity(run_dir / LOCK) != taken:
                raise ReseenError(
                    f"{run_dir} was removed or moved while it was trained, so training stops: choose another --run"
                )

        try:
            yield check
        except ReseenError:
            check()  # where the folder is gone, that is why nothing could be written into it
            raise


def _leave_nothing(run_dir: Path) -> None:
    """Where no training began, no folder: the next one would be said to go on with nothing."""
    with suppress(OSError):
        if [path.name for path in run_dir.iterdir()] == [LOCK]:
            (run_dir / LOCK).unlink()
            run_dir.rmdir()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
