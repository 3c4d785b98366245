"""benchmarks/cluster_contrast_peer.py: the parts that need neither the peer's code nor photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reseen.config import ModelConfig
from reseen.models import build_encoder

ROOT = Path(__file__).parents[1]


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import cluster_contrast_peer

    return cluster_contrast_peer


def test_squeezenet_in_parts_computes_what_the_encoder_computes(harness, tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(backbone="squeezenet1_1")).eval()
    weights = tmp_path / "squeezenet.safetensors"
    save_file(
        {f"features.{name}": value for name, value in encoder.backbone.features.state_dict().items()}, weights
    )
    parts = harness.squeezenet_in_parts(weights, pretrained=True)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    maps = images = torch.rand(2, 3, 64, 32)
    for name in names:
        maps = getattr(parts, name)(maps)
    assert torch.equal(maps, encoder.backbone.forward_features(images))
    assert parts.fc.in_features == encoder.dim
    parts.layer4[0].conv2.stride = parts.layer4[0].downsample[0].stride = (1, 1)  # what the peer does to it


def test_the_images_of_the_manifest_are_linked_by_their_part(harness, tmp_path):
    photographs = {"train": "0002_c1s1_000451_03.jpg", "query": "1290_c2s1_000001_00.jpg"}
    lines = ["path,camera,identity,split"]
    for split, name in photographs.items():
        (tmp_path / name).write_text(split)
        lines.append(f"{tmp_path / name},1,2,{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    for _ in range(2):  # a second call finds the links
        folder = harness.market_layout(tmp_path / "manifest.csv", tmp_path / "peer")
    root = folder / "market1501" / "Market-1501-v15.09.15"
    assert (root / "bounding_box_train" / photographs["train"]).read_text() == "train"
    assert (root / "query" / photographs["query"]).read_text() == "query"
    assert list((root / "bounding_box_test").iterdir()) == []


def test_features_are_scored_by_both_sides(harness):
    asked, found = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[[1, 0, 0]]
    query, gallery = [("a", 7, 0), ("b", 8, 0)], [("c", 7, 1), ("d", 8, 1), ("e", 7, 0)]
    scored: dict = {}

    def peer(asked, found, distances, query, gallery, cmc_flag):
        assert cmc_flag
        return [0.25], np.float64(0.125)

    score = harness.scored_twice(peer, scored)
    assert score(asked, found, None, query=query, gallery=gallery, cmc_flag=False) == 0.125
    # each query's match is second; query 7's own camera is left out
    assert scored["scores"] == {"mean_ap": 0.5, "rank1": 0.0}
    assert scored["scores_by_peer"] == {"mean_ap": 0.125, "rank1": 0.25}


def test_table_and_record_of_what_is_finished(harness, tmp_path):
    for seed, mean_ap in ((1, 0.25), (2, 0.35)):
        record = {
            "row": "ours",
            "seed": seed,
            "scores": {"mean_ap": mean_ap, "rank1": 0.5},
            "clusters": [150, 140],
            "cpu_seconds": {"all": 100.0, "embed": 50.0, "cluster": 10.0},
        }
        (tmp_path / f"ours-{seed}.json").write_text(json.dumps(record))
    table = harness.table(tmp_path, tmp_path / "results" / "peer.json").splitlines()
    assert table[2] == "| ours | 1 | 25.0 | 50.0 | 150, 140 | 100 | 50 | 10 |"
    assert table[4] == "| ours | mean | 30.0 | 50.0 | | | | |"
    written = json.loads((tmp_path / "results" / "peer.json").read_text())
    assert [row["seed"] for row in written["results"]] == [1, 2]
    assert written["setting"]["identities"] == 250
