"""Rows of tables: which trainings are one, who read cameras, what is refused, and what a table warns of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce_runs import SETTINGS, result, tiny_table
from reseen.errors import ReseenError
from reseen.records import Crop, ReidData, cameras_of
from reseen.reproduce import command
from reseen.reproduce.kinds import kind_of
from reseen.reproduce.measure import Job
from reseen.reproduce.results import Digests
from reseen.reproduce.scales import configuration_of
from reseen.reproduce.tables import CUHK, MARKET, TABLES, Row
from reseen.reproduce.write import Block, choice_cells, precisions_differ

CAMERAS = {"both": (1, 2), "one": (1, 1), "unknown": (-1, -1)}


def job(table: str, row: str, *, data: str = MARKET, cameras: tuple[int, ...] = (1, 2), settings=()) -> Job:
    known = TABLES[table].rows[row]
    crops = tuple(Crop(Path(f"{i}.jpg"), camera) for i, camera in enumerate(cameras))
    config = configuration_of(known, TABLES[table], data, "small", 1, tuple(settings))
    kind = kind_of(known, TABLES[table])
    weights = ("none",) * len(kind.task.steps(config))
    return Job(row, known, 1, kind, config, ReidData("m", Path(), crops), Digests("train", "test"), weights)


def cameras_read(one: Job) -> str:
    return one.kind.cameras(one.config, cameras_of(one.data.train))


def test_rows_that_come_to_one_training_share_its_folder_and_its_lock(tmp_path):
    one, other = job("cacl-table3", "cacl"), job("cacl-table1", "cacl-strong")
    other = replace(other, config=replace(one.config, recipe="cacl-strong"))
    assert one.row.recipe != other.row.recipe
    assert one.run_folder(tmp_path) == other.run_folder(tmp_path)
    assert one.lock_file(tmp_path) == other.lock_file(tmp_path)
    different = job("cacl-table3", "cacl-no-refine")
    assert different.run_folder(tmp_path) != one.run_folder(tmp_path)


@pytest.mark.parametrize(
    ("cameras", "settings", "says"),
    [
        ("both", (), "sampler"),
        ("one", (), "no"),  # nothing to prefer
        ("unknown", (), "no"),
        ("both", ("data.camera_aware=off",), "no"),
        ("both", ("cluster.camera_standardise=true",), "sampler and clustering"),
        ("both", ("data.camera_aware=off", "loss.camera_weight=0.5"), "loss"),
    ],
)
def test_a_result_says_who_read_cameras(cameras, settings, says):
    assert cameras_read(job("cacl-table1", "cacl", cameras=CAMERAS[cameras], settings=settings)) == says


def test_of_person_search_the_second_of_two_steps_reads_cameras():
    assert cameras_read(job("r-siamnet-table7", "two-step", data=CUHK)) == "sampler"
    assert cameras_read(job("r-siamnet-table7", "r-siamnet", data=CUHK)) == "no"


def test_only_what_makes_rows_differ_at_that_scale_is_refused():
    table1, steps = TABLES["cacl-table1"], TABLES["cacl-strong"]
    command.refuse_settings(table1, ["train.epochs=2"], "small")
    with pytest.raises(ReseenError, match=r"train\.epochs.*rows of this table differ"):
        command.refuse_settings(table1, ["train.epochs=2"], "full")
    with pytest.raises(ReseenError, match=r"cluster\.outliers"):
        command.refuse_settings(steps, ["cluster.outliers=keep"], "small")
    for word in ("method=spcl", "recipe=cscl"):
        with pytest.raises(ReseenError, match="choose rows with --row"):
            command.refuse_settings(table1, [word], "small")


def test_rows_of_two_precisions_are_told():
    one, other = result("cacl", 1, [0.1]), result("cacl", 2, [0.1])
    assert precisions_differ({"cacl": [one, other]}) == ""
    other.about["machine"] = {"precision": "none"}
    assert "bf16 and none" in precisions_differ({"cacl": [one, other]})


def test_epochs_that_another_criterion_chose_are_left_out():
    table = TABLES["cacl-table6"]
    ours, old = result("cacl", 1, [0.5]), result("cacl", 2, [0.5])
    for made, score in ((ours, 0.4), (old, 0.1)):
        made.scores["label-free"] = {"epoch": 2, "mean_ap": score}
    old.about["criterion"] = "of yesterday"
    cells = choice_cells(table, Block("m", MARKET, {"cacl": [ours, old]}, ""))
    row = next(row for row in cells.rows if row[0] == "CACL")
    assert row[1] == "50.0 ± 0.0"
    assert row[3:5] == ("40.0", "2")


def test_a_row_that_was_not_asked_for_does_not_fail_a_command(tmp_path, monkeypatch):
    real = command.measure

    def failing(one, out):
        if one.name == "cscl":
            raise ReseenError("no")
        return real(one, out)

    monkeypatch.setattr(command, "measure", failing)
    with pytest.raises(ReseenError, match="1 rows failed"):
        tiny_table("cacl-table6", tmp_path, seeds=1, rows=["cscl"])
    tiny_table("cacl-table6", tmp_path, seeds=1, rows=["cacl"])


def test_table_3_on_the_drawn_street(tmp_path):
    """The whole of an ablation, each row in a few steps."""
    path = tiny_table("cacl-table3", tmp_path, seeds=1)
    text = path.read_text()
    table = TABLES["cacl-table3"]
    for row in table.rows.values():
        assert re.search(rf"^\| {re.escape(row.label)} \| \d+\.\d ", text, flags=re.M), row.label
    made = [json.loads(p.read_text()) for p in (tmp_path / "rows").glob("*.json")]
    assert sorted(m["row"] for m in made) == sorted(table.rows)
    assert len({m["fingerprint"] for m in made}) == len(table.rows)
    assert len(re.findall(r"for this seed|inside the noise", text)) >= 2 * len(table.claims)
    assert all("cluster.outliers" not in word for word in SETTINGS)  # from the small scale itself
    assert all(m["config"]["cluster"]["outliers"] == "drop" for m in made)


def test_rows_have_labels_of_their_own():
    for name, table in TABLES.items():
        labels = [row.label for row in table.rows.values() if isinstance(row, Row)]
        assert len(set(labels)) == len(labels), name
