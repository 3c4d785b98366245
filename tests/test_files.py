"""Whatever happens while a file is written, the old one or the new one is there, whole, and nothing else."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from reseen import files
from reseen.errors import ReseenError
from reseen.files import append_json, from_json, new_file, to_json, write_file
from reseen.training.checkpoint import write_tensors

KILLED = """
import os, signal, sys
from pathlib import Path
from reseen.files import new_file
with new_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    (temporary.parent / ".tmpOfALibrary").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
MANY = """
import sys
from pathlib import Path
from reseen.files import write_file
for _ in range(40):
    write_file(Path(sys.argv[1]), sys.argv[2] * 100_000)
"""


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.txt"
    write_file(path, "old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    write_file(path, "ü")
    assert path.read_bytes() == "ü".encode()
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("where", ["os.fsync", "os.replace", "Path.write_bytes", "Path.mkdir"])
def test_a_failed_write_keeps_the_old_file(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_file(path, b"old")
    owner, _, name = where.partition(".")
    monkeypatch.setattr(getattr(files, owner), name, full)
    with pytest.raises(ReseenError, match=r"^cannot write .*page.html \(No space left on device\): go away$"):
        write_file(path, b"new", "go away")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["page.html"]
    with pytest.raises(ReseenError, match="cannot write"):
        write_file(path / "below-a-file", b"x")


def test_a_library_that_finds_the_disk_full_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_for_safetensors(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("reseen.training.checkpoint.save_file", full_for_safetensors)
    with pytest.raises(ReseenError, match=r"No space left on device .*: free some$"):
        write_tensors(tmp_path / "a.safetensors", {}, remedy="free some")
    assert names(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "old")
    with (
        pytest.raises(ZeroDivisionError),
        new_file(tmp_path / "a") as temporary,
    ):
        temporary.write_text(f"half {1 / 0}")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_writer_that_is_killed_leaves_the_old_file_and_the_next_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"  # no pattern
    write_file(path, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    (tmp_path / ".a[1].txt.4194305.partial").touch()  # as an older version left it
    (tmp_path / f".a[1].txt.{os.getppid()}-1.partial").mkdir()  # of a process that lives
    write_file(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == [f".a[1].txt.{os.getppid()}-1.partial", "a[1].txt"]


def test_two_writers_at_once_both_end_and_a_reader_sees_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, "0" * 100_000)
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(path), letter]) for letter in "xy"]
    while any(writer.poll() is None for writer in writers):
        text = path.read_text()
        assert len(text) == 100_000
        assert len(set(text)) == 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["a"]


def test_what_lasts_is_flushed_before_the_renaming_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, flush = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(name_of(handle)), flush(handle)))

    def name_of(handle: int) -> str:
        found = {path.stat().st_ino: path.name for path in (tmp_path, *tmp_path.rglob("*"))}
        return found[os.fstat(handle).st_ino]

    write_file(tmp_path / "a", "x")
    assert done == ["new", "rename", tmp_path.name]
    done.clear()
    with new_file(tmp_path / "b", durable=False) as temporary:
        temporary.write_text("x")
    assert done == ["rename"]


# --- JSON ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_holds_finite_numbers_only(value: float, tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="not a finite number") as error:
        to_json({"test": [{"mean_ap": value}]}, indent=2)
    assert "\n" not in str(error.value)
    assert from_json(f'{{"a": [{str(value).replace("inf", "Infinity").replace("nan", "NaN")}]}}') == {
        "a": [None]
    }
    with pytest.raises(ReseenError):  # all or none
        append_json(tmp_path / "lines", [{"a": 1}, {"a": value}])
    assert not (tmp_path / "lines").exists()


def test_lines_are_added_behind_one_that_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_json(path, [{"a": 1}])
    append_json(path, [{"a": 2}, {"a": 3}])
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n{"a": 3}\n'
    path.write_text('{"a": 1}\n{"a"')
    append_json(path, [{"a": 4}])
    assert path.read_text() == '{"a": 1}\n{"a"\n{"a": 4}\n'


def writers_of_json(source: str) -> list[str]:
    """Where a module makes JSON by itself."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps", "JSONEncoder"):
            if isinstance(node.value, ast.Name) and node.value.id in ("json", "orjson", "ujson"):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and node.module == "json":
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_all_json_of_the_package_is_written_in_one_place() -> None:
    package = Path(files.__file__).parent
    found = {
        str(path.relative_to(package)): writers_of_json(path.read_text())
        for path in sorted(package.rglob("*.py"))
    }
    assert len(found.pop("files.py")) == 1  # the place, which sees that it can be seen
    assert {name: lines for name, lines in found.items() if lines} == {}
