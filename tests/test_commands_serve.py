"""``reseen serve``: it prints where it is, the commands of its page work, and every mistake is one line."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reseen.gallery.server
from command_runs import done
from reseen.cli import main
from reseen.commands.serve import root_of
from reseen.errors import ReseenError
from test_cli import refused
from test_docs import ROOT, Block, blocks, commands, shrunk
from worlds import people

BLOCKS = [block for block in blocks((ROOT / "docs" / "serve.md").read_text()) if block.language == "bash"]


def block_with(word: str) -> Block:
    (found,) = [block for block in BLOCKS if word in block.body]
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photos, and the gallery that the first commands of docs/serve.md make of them."""
    place = tmp_path_factory.mktemp("serve")
    people(place / "photos", identities=8)
    with contextlib.chdir(place):
        for line in commands(block_with("reseen index")).splitlines():
            done(*shlex.split(shrunk(line))[1:])
        yield place


def test_the_api_answers_the_commands_of_the_page(home: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(block_with("curl"))],
        env={**os.environ, "PATH": path},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '{"status":"ok"}' in done.stdout
    assert '"camera":2' in done.stdout
    assert (home / "row.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert (home / "matches.csv").read_text().startswith('"rank","row","similarity","probability"')


def test_it_prints_where_it_is_answers_and_stops(home: Path) -> None:
    said, answers = io.StringIO(), []

    def ask_and_interrupt() -> None:
        while "http" not in said.getvalue():
            time.sleep(0.05)
        with urllib.request.urlopen(f"{said.getvalue().split()[0]}api/gallery") as answer:
            answers.append(answer.read())
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask_and_interrupt, daemon=True)
    asking.start()
    with contextlib.redirect_stdout(said):
        code = main(["serve", "gallery", "--port", "0"])
    asking.join()
    address, stopped = said.getvalue().splitlines()
    assert (code, stopped) == (0, "stopped; what was searched for is forgotten")
    assert address.startswith("http://127.0.0.1:")
    assert b'"rows":' in answers[0]


def test_mistakes_are_one_line(home: Path, searched: tuple[Path, str], tmp_path: Path) -> None:
    assert "no gallery yet" in refused("serve", tmp_path / "none")
    assert "--token-file" in refused("serve", "gallery", "--host", "0.0.0.0")
    (tmp_path / "token").write_text("short")
    assert "16 characters" in refused("serve", "gallery", "--token-file", tmp_path / "token")
    assert "cannot be read" in refused("serve", "gallery", "--token-file", tmp_path / "none")
    assert "features of two models" in refused("serve", "gallery", "--run", searched[0])
    assert "no such folder" in refused("serve", "gallery", "--images", "monday=nowhere")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--port" in refused("serve", "gallery", "--port", taken.getsockname()[1])
    assert "--port" in refused("serve", "gallery", "--port", 70_000)


def test_folders_of_pictures_may_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "a=b"):
        (tmp_path / name).mkdir()
    assert root_of("photos") == ("", Path("photos"))
    assert root_of("monday/=photos") == ("monday", Path("photos"))
    assert root_of("./a=b") == ("", Path("./a=b"))


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.util.find_spec

    def find_spec(name: str, package: Any = None) -> Any:
        return None if name == "uvicorn" else original(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(ReseenError, match=r"pip install 'reseen\[gallery\]'$"):
        importlib.reload(reseen.gallery.server)
