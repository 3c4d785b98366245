"""A folder for a model hub: loaded without a network, bit for bit what was trained; a card that says what is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError

import reseen
from command_runs import done
from reseen.errors import ReseenError
from reseen.models import hub
from reseen.training import LAST, read_checkpoint
from reseen.training.checkpoint import write_checkpoint
from test_cli import refused


def test_crops_go_round_bit_for_bit(finished: Path, world: Path, tmp_path: Path) -> None:
    done("evaluate", finished, "--data", world)
    done("export", finished, "--format", "hub", "--licence", "cc-by-4.0")
    out = finished / "hub"
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    moved = out.rename(tmp_path / "moved")
    here, there = reseen.Embedder.load(finished), reseen.Embedder.load(moved)
    paths = sorted((world / "query").iterdir())
    np.testing.assert_array_equal(here(paths), there(paths))
    assert there.fingerprint == here.fingerprint
    tensors = read_checkpoint(moved / "model.safetensors").tensors
    assert all(name.startswith("networks.first.") for name in tensors)  # no memory, optimiser or labels
    about = json.loads((moved / "config.json").read_text())
    assert (about["fingerprint"], about["licence"]) == (here.fingerprint, "cc-by-4.0")
    card = (moved / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    score = json.loads((finished / "evaluations.jsonl").read_text().splitlines()[-1])
    assert f"| {score['data']} | `reseen evaluate`, epoch 2, last | {100 * score['mean_ap']:.1f} |" in card
    for word in ("## Data", "## Limits", "## Consent", here.fingerprint):
        assert word in card


def test_scenes_in_one_step_and_in_two(
    searched: tuple[Path, str], stepped: tuple[Path, str], tmp_path: Path
) -> None:
    scene = np.random.default_rng(0).integers(0, 255, (128, 192, 3), dtype=np.uint8)
    boxes = [[10, 10, 50, 120], [90, 20, 130, 110]]
    for name, run in (("one", searched[0]), ("two", stepped[0])):
        done("export", run, "--format", "hub", "--out", tmp_path / name)
        here, there = reseen.PersonSearcher.load(run), reseen.PersonSearcher.load(tmp_path / name)
        np.testing.assert_array_equal(here.embed(scene, boxes), there.embed(scene, boxes))
        np.testing.assert_array_equal(here(scene).boxes, there(scene).boxes)
        assert "license: other" in (tmp_path / name / "README.md").read_text()


def test_a_run_without_an_end_is_refused_and_its_file_is_not(finished: Path) -> None:
    path = finished / "checkpoint" / LAST
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, checkpoint.tensors, checkpoint.state | {"epoch": 1})
    assert "has trained 1 of 2 epochs: finish it" in refused("export", finished, "--format", "hub")
    done("export", path, "--format", "hub", "--out", finished / "early")
    assert "recorded none" in (finished / "early" / "README.md").read_text()


def test_a_full_disk_leaves_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("reseen.training.checkpoint.save_file", full)
    before = sorted(finished.iterdir())
    assert "No space left on device" in refused("export", finished, "--format", "hub")
    assert sorted(finished.iterdir()) == before


def test_a_name_asks_no_network_unless_told(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("export", finished, "--format", "hub", "--out", tmp_path / "copy")
    asked = []

    def snapshot(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        assert "*.safetensors" in allow_patterns
        assert not any("bin" in pattern or "pt" in pattern for pattern in allow_patterns)
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        if name == "some/gone":
            raise OfflineModeIsEnabled("offline mode\nis enabled")
        return str(tmp_path / "copy")

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ReseenError, match="neither here nor in the hub's cache: download=True"):
        reseen.Embedder.load("some/model")
    assert reseen.Embedder.load("some/model", download=True).dim == 96
    with pytest.raises(ReseenError, match="could not be fetched from the hub"):
        reseen.PersonSearcher.load("some/gone", download=True)
    assert asked == [("some/model", True), ("some/model", False), ("some/gone", False)]
    with pytest.raises(ReseenError, match="not a checkpoint"):
        reseen.Embedder.load(tmp_path / "some" / "model")  # a path is a path
    assert len(asked) == 3
