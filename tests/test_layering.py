"""The house: who imports whom, what stays lazy, what others may call, and how large things get."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import reseen
from reseen.cli import main
from reseen.losses import cluster_loss
from reseen.methods import METHODS, cacl
from reseen.tasks import TASKS
from worlds import TINY, people

PACKAGE = Path(reseen.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# The way the data takes (docs/architecture.md): a room imports only from rooms named before it.
ROOMS = (
    *("errors", "files", "progress", "pixels", "records", "onnx", "config", "device", "compiled", "data"),
    *("street", "models"),
    *("clustering", "losses", "memory", "metrics", "evaluation", "distributed", "training", "methods"),
    *(
        "inference",
        "export",
        "footage",
        "pages",
        "tasks",
        "gallery",
        "reports",
        "commands",
        "reproduce",
        "cli",
    ),
)
# What DESIGN promises to others, with names, kinds and defaults of every parameter.
PUBLIC_FUNCTIONS = {
    "clustering.jaccard_distance": "features, *, k1=30, k2=6, max_distance=None, device=None",
    "clustering.dbscan": "distances, *, eps=0.6, min_samples=4",
    "clustering.refine": "labels, tight_labels, distances, *, removed_to='subcluster'",
    "clustering.finch": "features, *, image_ids=None, image_filter='link'",
    "losses.instance_loss": "predictions, targets",
    "losses.inter_view_loss": "predictions, centroids, labels",
    "losses.cluster_loss": "features, centroids, labels, *, temperature=0.05, focal_gamma=2.0",
    "losses.self_instance_loss": "search, instance",
    "losses.inter_instance_loss": "search, instance",
    "losses.unified_pair_loss": "features, memory, labels, memory_labels, *, scale=16.0, margin=0.1",
    "memory.momentum_update": "memory, rows, features, *, momentum=0.2",
    "metrics.reid_scores": "query_features, gallery_features, query_identities, gallery_identities, "
    "query_cameras, gallery_cameras, *, ranks=(1, 5, 10)",
    "metrics.reid_scores_from_distances": "distances, query_identities, gallery_identities, query_cameras, "
    "gallery_cameras, *, ranks=(1, 5, 10)",
    "metrics.person_search_scores": "queries, detections, *, min_score=0.5, ranks=(1, 5, 10)",
    "metrics.detection_scores": "detections, ground_truth, *, min_score=0.5, min_iou=0.5",
}
PUBLIC_NAMES = {
    "metrics": ("ReidScores", "SearchScores", "DetectionScores", "SearchQuery", "SceneDetections"),
    "config": ("Config", "resolve", "recipe_names", "to_yaml", "from_yaml", "differences", "fingerprint"),
    "records": ("Crop", "Scene", "PseudoLabels", "ReidData", "LabelledCrops", "LabelledScenes"),
    "data": ("open_data", "scan_images", "clean_transform", "training_transform", "train_batches"),
    "street": ("draw_crops", "draw_scenes", "compose"),
    "models": ("build_encoder", "build_predictor", "load_weights"),
    "models.embedding": ("embed",),
    "errors": ("ReseenError",),
}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, also inside functions and for types only."""
    inside = ["reseen", *file.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "reseen" and len(parts) > 1 and parts[1] in ROOMS else None


def test_every_file_is_in_a_room():
    tops = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in FILES}
    doors = {"__init__", "__main__"}
    assert tops <= {*ROOMS, *doors}, f"rooms without a place in the order: {tops - {*ROOMS, *doors}}"


def test_rooms_import_only_from_rooms_before_them():
    wrong = []
    for file in FILES:
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):  # lends names from every room, lazily; starts the last
            continue
        for line, name in imports(file):
            other = room_of(name)
            if other is not None and ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{file.relative_to(PACKAGE)}:{line} ({room}) imports {name} ({other})")
    assert not wrong, "\n".join(wrong)


def file_of(name: str) -> Path | None:
    """The file that ``name`` is defined in, or that it is: None for what is not ours."""
    parts = name.split(".")
    while parts and parts[0] == "reseen":
        place = PACKAGE.joinpath(*parts[1:])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
        parts.pop()
    return None


def circle(graph: dict[Path, set[Path]]) -> list[Path]:
    """Files that import each other in a ring; empty where there is none."""
    finished: set[Path] = set()

    def visit(file: Path, above: list[Path]) -> list[Path]:
        if file in above:
            return above[above.index(file) :]
        if file in finished:
            return []
        for other in sorted(graph[file]):
            if ring := visit(other, [*above, file]):
                return ring
        finished.add(file)
        return []

    return next((ring for file in sorted(graph) if (ring := visit(file, []))), [])


def test_no_files_import_each_other_in_a_circle():
    graph = {file: {file_of(name) for _, name in imports(file)} - {None, file} for file in FILES}
    assert [str(file.relative_to(PACKAGE)) for file in circle(graph)] == []


def test_a_circle_is_seen():
    a, b, c = Path("a"), Path("b"), Path("c")
    assert circle({a: {b}, b: {c}, c: {b}}) == [b, c]
    assert circle({a: {b, c}, b: {c}, c: set()}) == []


def test_training_is_handed_a_method_and_neither_imports_nor_names_one():
    names = {*METHODS, *(name for task in TASKS.values() for name in task.methods)}
    assert {"cacl", "cscl", "r-siamnet", "two-step"} <= names
    word = re.compile("|".join(rf"(?<![\w.-]){re.escape(name)}(?![\w-])" for name in sorted(names)))
    assert word.search("as r-siamnet does")
    wrong = []
    for file in (PACKAGE / "training").glob("*.py"):
        wrong += [
            f"{file}:{line} imports {name}" for line, name in imports(file) if room_of(name) == "methods"
        ]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and word.search(node.value):
                wrong.append(f"{file}:{node.lineno} names a method: {node.value!r}")
    assert not wrong, "\n".join(wrong)


def test_what_a_task_changes_is_asked_in_one_place():
    """A task is looked up once a command; nothing asks again what kind of data, configuration or method it has."""
    asks = re.compile(
        r"isinstance\(.*(SearchData|ReidData|Scene|TwoStepConfig)\)|is_two_step\(|in SCENES|"
        r'[=!]= "r-siamnet"|kind == '
    )
    hits = [(file, line) for file in FILES for line in file.read_text().splitlines() if asks.search(line)]
    assert len(hits) <= 3, hits
    assert len({file for file, _ in hits}) <= 1, hits


def test_six_calls_lead_from_a_command_to_the_arithmetic_of_a_loss(tmp_path, monkeypatch):
    stacks: list[list[str]] = []

    def spy(*given, **more):
        frames = [
            frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(PACKAGE)
        ]
        stacks.append([f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.name}" for frame in frames])
        return cluster_loss(*given, **more)

    monkeypatch.setattr(cacl, "cluster_loss", spy)
    monkeypatch.setattr("reseen.commands.train.report_on", lambda *given: None)  # pictures take seconds
    people(tmp_path / "people")
    words = ["train", "cacl", "--data", str(tmp_path / "people"), "--run", str(tmp_path / "run")]
    settings = [word for setting in (*TINY, "train.epochs=1") for word in ("--set", setting)]
    assert main([*words, "--weights", "none", *settings]) == 0
    assert stacks
    for stack in stacks:
        assert (stack[0], stack[-1]) == ("cli/__init__.py:main", "methods/cacl.py:losses")
        assert len(stack) <= 6, stack  # each frame makes one call, the last that of cluster_loss


def test_the_public_door_says_what_is_behind_it():
    assert set(reseen.__all__) == {
        "Embedder",
        "Gallery",
        "PersonSearcher",
        "evaluate",
        "train",
        *reseen.ROOMS,
    }
    assert set(dir(reseen)) == {*reseen.__all__, "__version__"}
    assert all(getattr(reseen, name) is not None for name in reseen.__all__)
    assert list(inspect.signature(reseen.train).parameters)[:3] == ["method", "data", "run_dir"]
    assert list(inspect.signature(reseen.evaluate).parameters)[:2] == ["run_dir", "data"]
    assert callable(reseen.Embedder.load)
    assert callable(reseen.PersonSearcher.load)
    with pytest.raises(AttributeError, match="PersonSeeker"):
        _ = reseen.PersonSeeker


def test_losses_need_torch_only():
    allowed = {"torch", "reseen.errors", *sys.stdlib_module_names}
    for _, name in imports(PACKAGE / "losses.py"):
        assert name.split(".")[0] in allowed or name.startswith("reseen.errors"), name


def test_no_strings_are_run_and_no_pickle_is_read():
    """DESIGN 4: no pickle is ever executed; style: no registry, no string imports."""
    wrong = []
    for file in FILES:
        where = file.relative_to(PACKAGE)
        unpicklers = ("pickle.load", "pickle.loads", "pickle.Unpickler", "dill", "joblib", "shelve")
        for line, name in imports(file):
            if name.startswith(unpicklers):  # UnpicklingError may be imported: it is caught
                wrong.append(f"{where}:{line} imports {name}")
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call, words = (
                ast.unparse(node.func),
                {word.arg: ast.unparse(word.value) for word in node.keywords},
            )
            if call in ("exec", "eval", "__import__") or call.startswith(unpicklers):
                wrong.append(f"{where}:{node.lineno} calls {call}")
            if call == "torch.load" and words.get("weights_only") != "True":
                wrong.append(f"{where}:{node.lineno} torch.load without weights_only=True")
            if words.get("allow_pickle") == "True":
                wrong.append(f"{where}:{node.lineno} allows pickle")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code",
    ["import reseen", "import reseen.cli", "import reseen.cli; reseen.cli.main([])"],
)
def test_torch_waits_until_a_command_runs(code):
    code += (
        "; import sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'loaded too early'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "parameters"), PUBLIC_FUNCTIONS.items())
def test_public_functions_keep_their_signature(name, parameters):
    module, _, function = name.rpartition(".")
    found = inspect.signature(getattr(importlib.import_module(f"reseen.{module}"), function))
    expected = inspect.signature(eval(f"lambda {parameters}: None"))
    assert [(p.name, p.kind, p.default) for p in found.parameters.values()] == [
        (p.name, p.kind, p.default) for p in expected.parameters.values()
    ]


@pytest.mark.parametrize(("module", "names"), PUBLIC_NAMES.items())
def test_public_names_exist(module, names):
    room = importlib.import_module(f"reseen.{module}")
    assert [name for name in names if not hasattr(room, name)] == []


def test_public_functions_have_docstrings():
    missing = []
    for name in PUBLIC_FUNCTIONS:
        module, _, function = name.rpartition(".")
        if not inspect.getdoc(getattr(importlib.import_module(f"reseen.{module}"), function)):
            missing.append(name)
    assert missing == []


def test_files_and_functions_stay_small():
    large = []
    for file in FILES:
        text = file.read_text()
        lines = text.count("\n")
        if lines > 350:
            large.append(f"{file.relative_to(PACKAGE)}: {lines} lines, more than 350")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 70:
                    large.append(
                        f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}: {length} lines, more than 70"
                    )
    assert not large, "\n".join(large)


def test_method_files_and_tests_stay_small_too():
    tests = Path(__file__).parent
    for folder, most in ((PACKAGE / "methods", 120), (tests, 500)):
        large = {
            str(f.relative_to(folder)): n
            for f in folder.rglob("*.py")
            if (n := f.read_text().count("\n")) > most
        }
        assert large == {}
