"""Behaviour that is held fixed: the bits of the final weights of every method, and of the scores of a row of a table.

``tests/data/digests.json`` has one set of digests for each platform (:func:`platform_key`); where a platform is not
in it the tests are skipped. ``make digests`` records them: on a commit that is trusted, before a change that must not
change behaviour. A change that is meant to change them records them anew in a commit of its own that says why.
Everything goes through the command line and the files it writes, so that rooms may be moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from command_runs import market
from reseen.cli import main
from reseen.records import SearchData
from worlds import TINY, TINY_SEARCH

DIGESTS = Path(__file__).parent / "data" / "digests.json"
CROPS = (
    "cacl",
    "cscl",
    "spcl",
    "cluster-contrast",
    "cacl-literal",
    "cacl-official",
    "cacl-strong",
    "single-strong",
)
TWO_STEP = (
    *(f"detector.{word}" for word in TINY_SEARCH),
    # enough steps for the detector to find a few persons, which is what the second step learns from
    *("detector.train.epochs=16", "detector.train.batch_size=2", "detector.train.lr=0.03"),
    *("detector.search.dim=16", "detector.data.height=64", "detector.train.clip_norm=5"),
    *(f"reid.{word}" for word in TINY),
    *("reid.cluster.k1=5", "reid.cluster.eps=0.3"),
)


def platform_key() -> str:
    """What decides over bits beside the source: libraries that draw and compute, instructions, their maker.

    The maker of the processor counts because matrix products are tuned, and summed, by it.
    """
    torch_version = torch.__version__.partition("+")[0]
    found = re.search(r"^vendor_id\s*: (\S+)$", _read("/proc/cpuinfo"), re.M)
    vendor = found[1] if found else platform.system()
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch_version}, numpy {np.__version__}, {platform.machine()} {vendor} {instructions}"


def digest_of_weights(checkpoint: Path) -> str:
    """SHA-256 over all tensors of the networks in order of name: names, types, shapes, bytes."""
    digest = hashlib.sha256()
    tensors = load_file(checkpoint)
    names = sorted(name for name in tensors if name.startswith("networks."))
    assert len(names) > 10
    for name in names:
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode() + tensor.tobytes())
    return digest.hexdigest()


def digest_of_scores(row: Path) -> str:
    """SHA-256 over the last epoch's mAP and CMC as they stand in a row's JSON, and each query's average precision."""
    scores = json.loads(row.read_text())["scores"]["last"]
    plain = {name: value for name, value in sorted(scores.items()) if name.startswith(("mean_ap", "rank"))}
    assert len(plain) == 4
    each = np.load(row.with_suffix(".npy"))
    return hashlib.sha256(json.dumps(plain).encode() + each.astype("<f8").tobytes()).hexdigest()


def train(method: str, data: Path, run: Path, settings: tuple[str, ...], *more: str) -> None:
    command("train", method, "--data", data, "--run", run, *words(settings), *more)


def command(*given: object) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*map(str, given), "--weights", "none"])
    assert code == 0, said.getvalue()


def words(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture
def held(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], None]]:
    """Compares a digest with the one of this platform; with ``--record`` writes it. One computing thread."""
    recorded = json.loads(DIGESTS.read_text())
    key, record = platform_key(), request.config.getoption("--record")
    if key not in recorded and not record:
        pytest.skip(f"no digests for {key}: `make digests` on a trusted commit records them")
    here = recorded.setdefault(key, {})

    def compare(name: str, digest: str) -> None:
        if record:
            here[name] = digest
            DIGESTS.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")
        assert here.get(name) == digest, f"{name} computes other bits than when its digest was recorded"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield compare
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("market"))


@pytest.mark.parametrize("recipe", CROPS)
def test_weights_of_a_method_on_crops(recipe, crops, tmp_path, held):
    method = recipe if recipe in ("cscl", "spcl", "cluster-contrast") else "cacl"
    train(method, crops, tmp_path / "run", tuple(TINY), "--recipe", recipe)
    held(recipe, digest_of_weights(tmp_path / "run" / "checkpoint" / "last.safetensors"))


def test_weights_of_r_siamnet(street: SearchData, tmp_path, held):
    train("r-siamnet", street.root, tmp_path / "run", tuple(TINY_SEARCH))
    held("r-siamnet", digest_of_weights(tmp_path / "run" / "checkpoint" / "last.safetensors"))


def test_weights_of_two_step(street: SearchData, tmp_path, held):
    train("two-step", street.root, tmp_path / "run", TWO_STEP)
    for part in ("detector", "reid"):
        last = tmp_path / "run" / part / "checkpoint" / "last.safetensors"
        held(f"two-step, {part}", digest_of_weights(last))


def test_scores_of_a_row_of_a_table(crops, tmp_path, held):
    settings = (*TINY, "train.evaluate_every=1")
    where = ("--data", crops, "--run", tmp_path, "--scale", "small", "--seeds", 1, "--row", "cacl")
    command("reproduce", "cacl-table5", *where, *words(settings))
    (row,) = (tmp_path / "rows").glob("*.json")
    held("reproduce cacl-table5, row cacl", digest_of_scores(row))


def test_one_changed_bit_changes_the_digest(tmp_path):
    from safetensors.numpy import save_file

    tensors = {f"networks.{n}": np.full(3, n, dtype=np.float32) for n in range(11)}
    save_file(tensors, tmp_path / "one.safetensors")
    tensors["networks.7"][1] = np.nextafter(np.float32(7), np.float32(8))
    save_file(tensors, tmp_path / "other.safetensors")
    assert digest_of_weights(tmp_path / "one.safetensors") != digest_of_weights(
        tmp_path / "other.safetensors"
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
