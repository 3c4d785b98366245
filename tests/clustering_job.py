"""benchmarks/clustering.py, with processes that are forked: each has the imports of this one, so ten cost no minute."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import traceback
from typing import Any

import numba  # noqa: F401
import scipy.sparse  # noqa: F401
import sklearn.cluster  # noqa: F401
import torch  # noqa: F401

FILE = sys.argv[1]


def forked(words: list[str], *, env: dict[str, str], check: bool = False, **_: Any) -> Any:
    """``subprocess.run`` of a Python program that prints less than a pipe holds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os._exit(program(words[1:], env))
    os.close(write)
    with os.fdopen(read) as said:
        printed = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert not (check and status), printed
    return subprocess.CompletedProcess(words, status, printed)


def program(words: list[str], env: dict[str, str]) -> int:
    os.environ.update(env)
    sys.path.insert(0, env["PYTHONPATH"])
    sys.argv = words
    try:
        if words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})
        else:
            runpy.run_path(words[0], run_name="__main__")
        sys.stdout.flush()
        return 0
    except BaseException:
        traceback.print_exc()
        return 1


subprocess.run = forked  # type: ignore[assignment]
sys.argv = sys.argv[1:]
runpy.run_path(FILE, run_name="__main__")
