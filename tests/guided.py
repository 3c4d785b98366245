"""A pytest plugin: atheris, which sees the lines that an input reaches, takes the place of chance in test_fuzz_readers.

    pip install atheris
    RESEEN_FUZZ=20000 pytest -n 0 -s -p guided tests/test_fuzz_readers.py -k manifests

One test at a time, for atheris ends the process: with status 0 after as many inputs, else with the input that broke
it. None may take 30 s, nor ask for 1 GiB at once.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

SOURCE = Path(__file__).parents[1] / "src"
KERNELS = [  # of which numba could compile nothing that is instrumented
    ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    for file in SOURCE.rglob("*.py")
    if file.name == "compiled.py" or "from reseen.compiled import" in file.read_text()
]

# The rooms that read what comes from outside, and all that they import.
with atheris.instrument_imports(include=["reseen"], exclude=KERNELS):
    import reseen.commands.features_file
    import reseen.config
    import reseen.data
    import reseen.data.video
    import reseen.footage.shards
    import reseen.gallery
    import reseen.models.checkpoint
    import reseen.pixels

import test_fuzz_readers as readers  # noqa: E402

# What a picture may declare: less than users get, or most of the time is spent on clearing pixels of damaged headers.
reseen.pixels.MAX_PIXELS = 4_000_000


def guided(kind: str, files: list[Path], read: Callable[[], object]) -> None:
    """:func:`test_fuzz_readers.fuzzed`; of several files the first byte of an input says which one it becomes."""
    whole, counts = [file.read_bytes() for file in files], [0, 0]
    read()

    def one(data: bytes) -> None:
        place, data = (data[0] % len(files), data[1:]) if len(files) > 1 and data else (0, data)
        files[place].write_bytes(data)
        said = readers.outcome(read)
        counts[0], counts[1] = counts[0] + 1, counts[1] + (said is not None)
        assert readers.in_a_line(said), said
        files[place].write_bytes(whole[place])
        if counts[0] == readers.INPUTS:
            print(
                f"\n{kind}: {counts[0]:,} guided inputs, {counts[1]:,} refused, the others read", flush=True
            )

    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(whole):
            first = bytes([number]) if len(files) > 1 else b""
            (Path(corpus) / str(number)).write_bytes(first + content)
        longest = 2 * max(map(len, whole)) + 1
        limits = ["-timeout=30", "-rss_limit_mb=0", "-malloc_limit_mb=1024", f"-max_len={longest}"]
        atheris.Setup([sys.argv[0], f"-runs={readers.INPUTS + 1}", "-seed=1", *limits, corpus], one)
        atheris.Fuzz()


readers.fuzzed = guided
