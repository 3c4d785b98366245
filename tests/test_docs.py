"""Documents are run: python blocks all, shell blocks that are marked, and links inside the repository."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- run(?P<run>:[^\n]*?)? *-->\n)?"
    r"^(?P<ticks>```+)(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=ticks) *$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: language, text, first line, and the words of a ``<!-- run: words -->`` above it."""

    language: str
    body: str
    line: int
    run: str | None


def blocks(text: str) -> list[Block]:
    return [
        Block(
            match["language"],
            match["body"],
            text.count("\n", 0, match.start("body")) + 1,
            (match["run"] or "").lstrip(":").strip() if match[0].startswith("<!--") else None,
        )
        for match in FENCE.finditer(text)
    ]


def commands(block: Block) -> str:
    """The shell commands of a block: all lines of ``bash``, those after ``$ `` of ``console``."""
    lines = block.body.splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    more = f" {block.run}" if block.run else ""
    return "\n".join(line + more if line.startswith("reseen ") else line for line in lines)


def having(language: tuple[str, ...], marked: bool) -> list[Path]:
    return [
        page
        for page in PAGES
        if any(b.language in language and (b.run is not None or not marked) for b in blocks(page.read_text()))
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", having(("python",), marked=False), ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """All blocks of a page, in order, with shared names, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    for block in blocks(page.read_text()):
        if block.language == "python":
            # blank lines before it, so that a traceback names the line of the page
            exec(compile("\n" * (block.line - 1) + block.body, str(page), "exec"), names)


@pytest.mark.parametrize("page", having(("bash", "console"), marked=True), ids=name)
def test_marked_shell_blocks_run(page, tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks(page.read_text()):
        if block.language in ("bash", "console") and block.run is not None:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands(block)],
                cwd=tmp_path,
                env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (
                f"{name(page)}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_inside_the_repository_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    broken = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        if not (page.parent / target.partition("#")[0]).exists():
            broken.append(target)
    assert broken == []


def test_blocks_are_found_with_their_marks():
    console = "<!-- run: --set a=1 -->\n```console\n$ reseen doctor\nall well\n```\n"
    text = f"a\n{console}```python\nx = 1\n```\n<!-- run -->\n```bash\nls\n```\n"
    shell, python, bash = blocks(text)
    assert commands(shell) == "reseen doctor --set a=1"
    assert (python.body, python.run, python.line) == ("x = 1\n", None, 8)
    assert (commands(bash), bash.run) == ("ls", "")
