"""Documents are run: python blocks all, shell blocks that are marked, and links inside the repository."""

import ast
import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import processes
import reseen
from command_runs import market
from films import film
from reseen import cli
from reseen.street import draw_scenes, draw_walks
from test_footage_yolox import stand_in
from worlds import TINY, TINY_SEARCH, people

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- run(?P<run>:[^\n]*?)? *-->\n)?"
    r"^(?P<ticks>```+)(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=ticks) *$",
    re.M | re.S,
)
# A line that calls reseen, or python on quoted code, without pipes, variables or a second command; quoted words may
# hold anything that the shell leaves alone.
OWN = re.compile(
    r"(?:(?:\S*/)?reseen(?: +(?:'[^']*'|[^\s'\"|&;<>$`*?]+))* *|python -c \"[^\"$`\\]*\")(?:\n|\Z)",
)

# Pages whose first commands are run: somebody types them before anything else.
FIRST = {"README.md", "docs/quickstart.md", "docs/own-images.md", "docs/person-search.md", "docs/embed.md"}
OWN_IMAGES = "docs/own-images.md"  # which test_own_images.py runs, to look at what it made


@dataclass(frozen=True)
class Block:
    """One fenced block: language, text, first line, and what a ``<!-- run -->`` above it says: "", "tiny" or None."""

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
    return "\n".join(lines if block.run != "tiny" else map(shrunk, lines))


def shrunk(line: str) -> str:
    """A training with the settings that make it one of seconds, in place of its own; other commands as they are."""
    found = re.match(r"(?:\S*/)?reseen train (\S+)", line)
    if found is None:
        return line
    settings = [*(TINY_SEARCH if found[1] == "r-siamnet" else TINY), "train.epochs=1"]
    return " ".join([line, "--weights none", *(f"--set {setting}" for setting in settings)])


def own_commands(script: str) -> tuple[list[list[str]], str]:
    """What asks nothing of a shell, up to the first that does: words of `reseen ...` and `python -c ...`; the rest."""
    first: list[list[str]] = []
    rest = script.replace("\\\n", " ")
    while found := OWN.match(rest):
        first.append(shlex.split(found[0]))
        rest = rest[found.end() :]
    return first, rest


def having(language: tuple[str, ...], marked: bool) -> list[Path]:
    return [
        page
        for page in PAGES
        if any(b.language in language and (b.run is not None or not marked) for b in blocks(page.read_text()))
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", having(("python", "pycon"), marked=False), ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """All blocks of a page, in order, with shared names, in an empty folder; of pycon also what it prints."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    said: list[str] = []
    for block in blocks(page.read_text()):
        if block.language == "pycon":
            session = doctest.DocTestParser().get_doctest(
                block.body, {}, name(page), str(page), block.line - 1
            )
            session.globs = names
            doctest.DocTestRunner(verbose=False).run(session, out=said.append, clear_globs=False)
            assert said == [], "".join(said)
        if block.language == "python":
            # blank lines before it, so that a traceback names the line of the page
            exec(compile("\n" * (block.line - 1) + block.body, str(page), "exec"), names)


@pytest.mark.parametrize(
    "page", [page for page in having(("bash", "console"), marked=True) if name(page) != OWN_IMAGES], ids=name
)
def test_marked_shell_blocks_run(page, tmp_path, request):
    """In a folder that holds what pages call theirs (photos/, people/, MARKET, ...), and the environment as .venv."""
    text = page.read_text()
    if "photos/" in text:
        people(tmp_path / "photos", identities=8)
    if "people/" in text:
        for crop in people(tmp_path / "people", identities=8)[0]:
            place = tmp_path / "people" / crop.path.name[:4] / f"cam{crop.camera}_{crop.path.name[12:]}"
            place.parent.mkdir(exist_ok=True)
            crop.path.rename(place)
    if "MARKET" in text:
        market(tmp_path / "MARKET")
    if "SCENES" in text:
        sizes = {"train_scenes": 6, "test_scenes": 4, "train_identities": 4, "test_identities": 3}
        draw_scenes(tmp_path / "SCENES", cameras=2, persons=(1, 3), **sizes)
    if "VIDEOS" in text:
        (tmp_path / "VIDEOS").mkdir()
        frames = draw_walks(0, 1, [1, 2], seconds=2, rate=4)
        film(tmp_path / "VIDEOS" / "cam1_20260131_120000.mp4", (np.asarray(f.image) for f in frames), rate=4)
    if "reseen embed RUN" in text:
        (tmp_path / "RUN").symlink_to(request.getfixturevalue("trained")[0])
    if "yolox.onnx" in text:
        stand_in(tmp_path / "yolox.onnx")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks(text):
        if block.language in ("bash", "console") and block.run is not None:
            first, rest = own_commands(commands(block))
            for command, *words in first:
                run = processes.start(words[1], cwd=tmp_path) if command == "python" else None
                code, said = (run or processes.reseen(*words, cwd=tmp_path)).wait()
                assert code == 0, f"{name(page)}:{block.line}\n{said[-4000:]}"
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", rest],
                cwd=tmp_path,
                env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (
                f"{name(page)}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )


@pytest.mark.parametrize("page", having(("bash", "console"), marked=False), ids=name)
def test_commands_are_ones_that_the_command_line_takes(page):
    """Also of blocks that are not run, as far as no shell is needed: a renamed option is noticed."""
    parser = cli._parser()
    for block in blocks(page.read_text()):
        if block.language in ("bash", "console"):
            for line in commands(block).replace("\\\n", " ").splitlines():
                for command, *words in own_commands(line.partition(" #")[0])[0]:
                    if command != "python":
                        parser.parse_args(words)


def test_the_first_commands_are_among_those_that_are_run():
    assert set(map(name, having(("bash", "console"), marked=True))) >= FIRST


def scripts() -> Iterator[str]:
    """Python that some test runs: examples, blocks, and what marked shell blocks hand to ``python -c``."""
    yield from (file.read_text() for file in (ROOT / "examples").glob("*.py"))  # test_examples.py
    for block in (block for page in PAGES for block in blocks(page.read_text())):
        if block.language == "python":
            yield block.body
        elif block.language == "pycon":
            yield "".join(example.source for example in doctest.DocTestParser().get_examples(block.body))
        elif block.run is not None:
            yield from (words[2] for words in own_commands(commands(block))[0] if words[0] == "python")


def names_used(script: str) -> set[str]:
    """``room.name`` of what a script imports from a room and uses, and the names of ``reseen`` itself."""
    nodes = list(ast.walk(ast.parse(script)))
    words = {node.id for node in nodes if isinstance(node, ast.Name)}
    used = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            used |= {f"{node.module}.{a.name}" for a in node.names if (a.asname or a.name) in words}
    dotted = {name.removeprefix("reseen.") for name in used if name.startswith("reseen.")}
    return dotted | {name.partition(".")[0] for name in dotted}


def test_each_public_name_stands_in_an_example_that_is_run():
    used = {name for script in scripts() for name in names_used(script)}
    used.add("onnx.PersonSearcher")  # a search network takes long to export: test_export_onnx.py does it
    public = set(reseen.__all__)
    for room in reseen.ROOMS:
        module = import_module(f"reseen.{room}")
        own = [
            n for n, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
        ]
        public |= {f"{room}.{n}" for n in getattr(module, "__all__", own) if not n.startswith("_")}
    assert sorted(public - used) == []


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


def test_the_site_lists_every_page_and_the_reference_every_room():
    """What `make docs` does not notice: a room without a page, and a function that its module's name hides."""
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert {f"reference/{room}.md" for room in reseen.ROOMS} <= listed
    front = (ROOT / "docs" / "reference" / "index.md").read_text()
    for shown in sorted(
        set(getattr(reseen, "__all__", reseen.CLASSES)) - set(reseen.ROOMS) - {"__version__"}
    ):
        assert f"::: reseen.{shown}\n" in front, shown
    for room in reseen.ROOMS:
        page = (ROOT / "docs" / "reference" / f"{room}.md").read_text()
        assert f"::: reseen.{room}\n" in page
        module = import_module(f"reseen.{room}")
        for shown in getattr(module, "__all__", ()):
            if (Path(module.__file__).parent / f"{shown}.py").exists() and "__init__" in module.__file__:
                assert f"::: reseen.{room}.{shown}.{shown}\n" in page, f"{room}.{shown}"


def test_figures_of_the_performance_table_are_those_of_the_pages_it_links():
    """A figure stands twice, in the table and in its details: whoever measures anew mends both."""
    front = ROOT / "docs" / "performance.md"
    figure = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w.]*\d)")
    rows = [
        line.strip("| ").split(" | ") for line in front.read_text().splitlines() if "](performance/" in line
    ]
    rows = [row for row in rows if len(row) >= 5]
    assert len(rows) > 30
    for row in rows:
        details = re.search(r"\]\(([\w/-]+\.md)", row[-1])[1]
        known = set(figure.findall((front.parent / details).read_text()))
        assert set(figure.findall(row[-4])) <= known, row


def test_blocks_are_found_with_their_marks():
    console = (
        "<!-- run: tiny -->\n```console\n$ reseen doctor\nall well\n$ .venv/bin/reseen train cscl\n```\n"
    )
    text = f"a\n{console}```python\nx = 1\n```\n<!-- run -->\n```bash\nreseen train cacl\n```\n```bash\nls\n```\n"
    shell, python, bash, unmarked = blocks(text)
    doctor, train = commands(shell).splitlines()
    assert doctor == "reseen doctor"
    assert train.startswith(".venv/bin/reseen train cscl --weights none --set model.backbone=street")
    assert (python.body, python.run, python.line) == ("x = 1\n", None, 9)
    assert (commands(bash), bash.run) == ("reseen train cacl", "")
    assert unmarked.run is None


@pytest.mark.parametrize(
    ("script", "calls", "rest"),
    [
        (
            "reseen split a --camera-pattern 'c(\\d|x)'\nreseen doctor \\\n  b",
            [["reseen", "split", "a", "--camera-pattern", r"c(\d|x)"], ["reseen", "doctor", "b"]],
            "",
        ),
        (
            ".venv/bin/reseen search g\npython -c 'x'\nreseen doctor",
            [[".venv/bin/reseen", "search", "g"]],
            "python -c 'x'\nreseen doctor",
        ),
        ('python -c "\nprint(2)"\nreseen doctor', [["python", "-c", "\nprint(2)"], ["reseen", "doctor"]], ""),
        ('python -c "$HOME"', [], 'python -c "$HOME"'),
        ("reseen doctor a | head", [], "reseen doctor a | head"),
        ("reseen doctor $HOME", [], "reseen doctor $HOME"),
        ("reseen doctor a && ls", [], "reseen doctor a && ls"),
    ],
)
def test_plain_calls_of_reseen_are_told_from_what_needs_a_shell(script, calls, rest):
    assert own_commands(script) == (calls, rest)


def test_a_name_counts_where_it_is_used_and_in_its_room_only():
    assert names_used("from reseen.data import join, fraction\n' '.join([])\nprint(fraction)") == {
        "data",
        "data.fraction",
    }
    assert names_used("import reseen.onnx\nreseen.onnx.Embedder.load('x')") >= {"onnx", "onnx.Embedder"}
    assert names_used("import reseen\nreseen.train('cacl', 'x')") == {"train"}
