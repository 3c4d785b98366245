"""Tables as commands: every row resolves, fingerprints tell rows apart, processes share and resume them."""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reseen import cli
from reseen.config import LITE, differences, fingerprint, recipe_names, resolve
from reseen.config.resolve import RECIPES
from reseen.errors import ReseenError
from reseen.metrics import DEFAULT_CRITERION
from reseen.reproduce import reproduce
from reseen.reproduce.compare import Finding, findings, papers_data, spread
from reseen.reproduce.prepare import Streets, parse_source
from reseen.reproduce.results import (
    Digests,
    Result,
    claimed,
    read_result,
    row_fingerprint,
    weights_digest,
    write_result,
)
from reseen.reproduce.scales import configuration_of
from reseen.reproduce.tables import CUHK, MARKET, MSMT17, PRW, TABLES, TWO_STEP, Claim
from reseen.reproduce.write import Block, as_csv, main_cells, markdown, sources_differ
from worlds import TINY, tiny

TINY_STREETS = Streets(
    crops={"train_identities": 8, "test_identities": 6, "cameras": 2, "frames": 2}, warm_up_epochs=1
)
SETTINGS = [word for word in TINY if "backbone" not in word]
ROWS = {  # one row of each kind: the same recipe and settings stand in several tables
    (row.recipe, row.settings, table.kind, table.ablates): (name, row_name)
    for name, table in TABLES.items()
    for row_name, row in table.rows.items()
}


def tiny_table(name: str, run: Path, *, settings: tuple[str, ...] = (), **given) -> Path:
    words = [*SETTINGS, *settings]
    return reproduce(
        name, data=["street"], scale="small", run=run, settings=words, streets=TINY_STREETS, **given
    )


# --- the tables as data ---


@pytest.mark.parametrize(("table", "row"), ROWS.values())
def test_every_row_has_a_configuration_on_every_kind_of_data(table, row):
    known = TABLES[table]
    real = MSMT17 if known.kind == "crops" else CUHK
    for scale, data in (("small", "street"), ("small", "anything"), ("full", real)):
        config = configuration_of(known.rows[row], known, data, scale, seed=7)
        if known.rows[row].recipe == TWO_STEP:
            assert config.detector.seed == config.reid.seed == 7
        else:
            assert config.seed == 7
            assert config.method == resolve(known.rows[row].recipe).method


def test_claims_name_rows_and_the_full_scale_changes_nothing_on_market():
    for table in TABLES.values():
        for claim in table.claims:
            assert {claim.better, claim.worse} <= set(table.rows)
        for row in table.rows.values():
            if row.recipe != TWO_STEP and not row.settings:
                config = configuration_of(row, table, MARKET, "full", seed=1)
                assert replace(config, recipe=row.recipe) == resolve(row.recipe)


def test_msmt17_has_its_preset():
    table = TABLES["cacl-table2"]
    iterations = {
        name: configuration_of(row, table, MSMT17, "full", 1).train.iterations
        for name, row in table.rows.items()
    }
    assert iterations["cacl"] == 800
    assert iterations["cluster-contrast"] == 400


def test_cluster_contrast_keeps_its_sixteen_identities_in_a_small_batch():
    table = TABLES["cacl-table1"]
    row = table.rows["cluster-contrast"]
    for scale, data in (("small", "anything"), ("small", "street"), ("full", MARKET)):
        train = configuration_of(row, table, data, scale, 1).train
        assert train.batch_size // train.instances == 16


def test_cacl_strong_is_its_steps_and_one_branch():
    table = TABLES["cacl-strong"]
    rows = {name: configuration_of(row, table, MARKET, "full", 1) for name, row in table.rows.items()}
    changed = differences(rows["strong-drop"], rows["cacl-strong"])
    assert set(changed) == set(differences(resolve("cacl"), resolve("cacl-single")))
    assert set(differences(rows["cacl"], rows["strong-drop"])) == {"cluster.features", "cluster.outliers"}


def test_figures_of_the_papers_are_those_that_recipes_cite():
    """The same number was typed twice, by the paper's tables here and in the recipes' comments."""
    seen = 0
    for table in TABLES.values():
        for row in table.rows.values():
            if row.recipe not in recipe_names() or MARKET not in row.paper or row.branch:
                continue
            text = " ".join((RECIPES / f"{row.recipe}.yaml").read_text().replace("#", " ").split())
            cited = re.search(r"(\d+\.\d) mAP / (\d+\.\d) rank-1", text)
            assert cited, row.recipe
            assert row.paper[MARKET][:2] == (float(cited[1]), float(cited[2])), row.recipe
            seen += 1
    assert seen > 15


# --- fingerprints ---


def test_a_row_from_before_a_key_was_added_keeps_its_name():
    """The value is that of the version before the keys `weights` and `data.mean` and the field `view`."""
    before = "71408b98284569da795eb542c7f390aa41b6f544ce444538c2783fe34eb052aa"
    data, scored = Digests("train", "test"), {"branch": None, "paths": None}
    words = [*TINY, "model.backbone=squeezenet1_1"]
    for begin in (
        "imagenet",
        "none",
    ):  # what the configuration says of weights is told apart by their content
        config = resolve("cacl", None, words, begin)
        assert row_fingerprint(config, data, ("imagenet",), scored=scored) == before


def test_other_published_weights_and_other_pixels_are_another_row():
    data = Digests("train", "test")

    def before(config, weights):
        same = replace(
            config, data=replace(config.data, workers=-1), train=replace(config.train, device="auto")
        )
        told = {"settings": [fingerprint(same)], "data": ["train", "test"], "weights": weights, "scored": {}}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    for backbone, weights, found in (
        ("squeezenet1_1", "imagenet", True),
        ("resnet50", "none", True),
        ("resnet50", "imagenet", False),  # timm's own choice then, torchvision's now
        (LITE, "imagenet", False),  # ImageNet's pixels then, those of the weights now
        (LITE, "none", True),
    ):
        config = tiny("cacl", f"model.backbone={backbone}")
        now = row_fingerprint(config, data, (weights,), scored={})
        assert (now == before(config, weights)) == found, (backbone, weights)
    assert weights_digest("imagenet", "resnet50") == "imagenet (resnet50.tv_in1k)"


@pytest.mark.parametrize("scale", ["full", "small"])
def test_lite_brings_its_backbone_to_the_rows(scale):
    crops, scenes = TABLES["cacl-table1"], TABLES["r-siamnet-table7"]
    config = configuration_of(crops.rows["spcl"], crops, "", scale, 1, (), "lite")
    assert (config.model.backbone, config.weights) == (LITE, "lite")
    both = configuration_of(scenes.rows[TWO_STEP], scenes, "", scale, 1, (), "lite")
    assert both.reid.model.backbone == LITE
    assert (both.detector.model.backbone == LITE) == (scale == "full")
    with pytest.raises(ReseenError, match=r"leave model\.backbone out"):
        configuration_of(crops.rows["spcl"], crops, "", scale, 1, ("model.backbone=resnet18",), "lite")


def test_a_changed_option_changes_the_fingerprint_and_where_it_runs_does_not():
    config = tiny()
    scored: dict[str, object] = {"branch": None}
    data = Digests("train", "test")
    base = row_fingerprint(config, data, ("none",), scored=scored)
    moved = tiny("cacl", "data.workers=3", "train.device=cuda")
    assert row_fingerprint(moved, data, ("none",), scored=scored) == base
    others = [
        row_fingerprint(tiny("cacl", word), data, ("none",), scored=scored)
        for word in (
            "cluster.eps=0.5",
            "seed=2",
            "train.epochs=3",
            "loss.instance=false",
            "train.evaluate_every=1",
        )
    ]
    others += [
        row_fingerprint(config, Digests("other", "test"), ("none",), scored=scored),
        row_fingerprint(config, Digests("train", "other"), ("none",), scored=scored),
        row_fingerprint(config, data, ("imagenet",), scored=scored),
        row_fingerprint(config, data, ("none",), scored={"branch": "second"}),
    ]
    assert len({base, *others}) == len(others) + 1


def test_the_data_digest_sees_identities_and_files(market_folder):
    from reseen.data import open_data

    data = open_data(market_folder)
    before = Digests.of(data)
    assert Digests.of(open_data(market_folder)) == before
    assert data.query is not None
    renamed = replace(data, query=replace(data.query, identities=data.query.identities + 1))
    assert (Digests.of(renamed).train, Digests.of(renamed).test != before.test) == (before.train, True)
    fewer = Digests.of(replace(data, train=data.train[:-1], train_identities=None))
    assert (fewer.test, fewer.train != before.train) == (before.test, True)


def test_the_digest_of_scenes_sees_the_right_answers(tmp_path):
    from reseen.data.galleries import galleries_by_identity
    from reseen.street import draw_scenes

    sizes = {"train_scenes": 4, "test_scenes": 6, "train_identities": 6, "test_identities": 6}
    data = draw_scenes(tmp_path / "street", seed=1, cameras=2, persons=(2, 4), **sizes)
    before = Digests.of(data)
    assert data.test_identities is not None
    swapped = tuple(labels[::-1].copy() for labels in data.test_identities)  # the same boxes, other persons
    answers = galleries_by_identity(data.test, data.test_names, swapped, data.probes)
    changed = Digests.of(replace(data, read_gallery=answers))
    assert (changed.train, changed.test != before.test) == (before.train, True)


@pytest.fixture
def market_folder(tmp_path):
    from reseen.street import draw_crops

    draw_crops(tmp_path / "street", seed=1, **TINY_STREETS.crops)
    return tmp_path / "street"


# --- results and what is said of them ---


def result(row: str, seed: int, ap, *, source: str = "s", **scores) -> Result:
    record = {"mean_ap": float(np.nanmean(ap)), "rank1": 0.5, "rank5": 0.6, "rank10": 0.7, **scores}
    about = {
        "cameras": "sampler",
        "source": source,
        "fingerprint": f"{row}{seed}",
        "test_digest": "test",
        "criterion": DEFAULT_CRITERION,
        "machine": {"precision": "bf16"},
    }
    return Result(row, seed, MARKET, {"last": {"epoch": 3, **record}}, about, np.asarray(ap, dtype=float))


def test_a_result_comes_back_as_it_was_written(tmp_path):
    one = result("cacl", 2, [0.25, np.nan, 1.0])
    assert read_result(tmp_path / "row.json") is None
    write_result(tmp_path / "row.json", one)
    back = read_result(tmp_path / "row.json")
    assert back is not None
    assert (back.row, back.seed, back.scores, back.about) == (one.row, one.seed, one.scores, one.about)
    np.testing.assert_array_equal(back.average_precision, one.average_precision)
    for damage in ('{"row": "cacl"', "[]", '{"row": "cacl", "seed": 1, "data": "x", "scores": {"last": {}}}'):
        (tmp_path / "row.json").write_text(damage)
        with pytest.raises(ReseenError, match="delete it"):
            read_result(tmp_path / "row.json")
    write_result(tmp_path / "row.json", one)
    (tmp_path / "row.npy").write_bytes(b"")
    with pytest.raises(ReseenError, match="delete it"):
        read_result(tmp_path / "row.json")


def test_claims_say_what_holds_what_does_not_and_what_is_noise():
    table = replace(
        TABLES["cacl-table3"],
        claims=(
            Claim("L_I helps", "cacl", "cacl-no-instance"),
            Claim("L_C helps", "cacl", "cacl-no-cluster-loss"),
            Claim("cluster refinement helps", "cacl", "cacl-no-refine"),
            Claim("nobody measured it", "cacl", "cacl-no-intra"),
        ),
    )
    draw = np.random.default_rng(0)
    base = [draw.uniform(0.2, 0.8, 400) for _ in range(3)]
    shifts = {"cacl": 0.0, "cacl-no-instance": -0.1, "cacl-no-cluster-loss": 0.1}
    results = {
        name: [result(name, seed, ap + shift) for seed, ap in enumerate(base, start=1)]
        for name, shift in shifts.items()
    }
    results["cacl-no-refine"] = [
        result("cacl-no-refine", seed, ap + draw.normal(0, 0.3, 400)) for seed, ap in enumerate(base, start=1)
    ]
    found: list[Finding] = findings(table, results, MARKET)
    assert [f.verdict for f in found] == ["yes", "no, the reverse", "inside the noise"]
    assert found[0].in_words() == "L_I helps: yes, +10.0 ± 0.0 (3 seeds)"
    assert [f.paper for f in found] == [0.5, 4.3, 7.5]
    alone = findings(table, {k: v[:1] for k, v in results.items()}, MARKET)
    assert "one seed" in alone[0].in_words()
    assert [f.verdict for f in alone[:2]] == ["for this seed", "the reverse, for this seed"]
    uneven = results | {
        "cacl-no-instance": [
            result("cacl-no-instance", seed, ap - shift)
            for seed, (ap, shift) in enumerate(zip(base, (0.01, 0.02, 0.2), strict=True), start=1)
        ]
    }  # every seed agrees, but by how much they do not
    assert findings(table, uneven, MARKET)[0].verdict == "likely"


def test_a_table_keeps_the_papers_figures_in_their_own_column():
    table = TABLES["cacl-table3"]
    results = {"cacl": [result("cacl", 1, [0.2, 0.4]), result("cacl", 2, [0.3, 0.5])]}
    cells = main_cells(table, Block("my Market", MARKET, results, "a note"))
    assert cells.columns[-4:] == tuple(
        f"paper, {MARKET}: {c}" for c in ("mAP", "rank-1", "rank-5", "rank-10")
    )
    rows = {row[0]: row for row in cells.rows}
    assert rows["CACL"][1] == "35.0 ± 7.1"
    assert rows["CACL"][5:7] == ("1, 2", "sampler")
    assert rows["CACL"][-4:] == ("80.9", "92.7", "97.4", "98.5")
    assert rows["w/o cluster refine"][1:5] == ("–",) * 4  # not measured: no figure of ours
    assert rows["w/o cluster refine"][-4:-2] == ("73.4", "88.5")
    assert list(rows) == [row.label for row in table.rows.values()]  # the paper's order
    assert markdown(cells).count("\n") == len(table.rows) + 1
    lines = as_csv(table, [Block("my Market", MARKET, results, "")]).splitlines()
    assert lines[1].startswith("my Market,cacl,1,last,3,0.3")
    assert papers_data(TABLES["r-siamnet-table8"], PRW) == PRW
    assert papers_data(TABLES["r-siamnet-table8"], "composite") == CUHK
    assert spread([], "mean_ap").in_percent() == "–"


def test_rows_of_other_sources_are_told():
    one, other = result("cacl", 1, [0.1]), result("cacl", 2, [0.1], source="t")
    assert sources_differ({"cacl": [one]}) == ""
    assert "2 versions" in sources_differ({"cacl": [one, other]})


# --- the command ---


@pytest.fixture(scope="module")
def table5(tmp_path_factory):
    """Two rows of one training, seed 1."""
    run = tmp_path_factory.mktemp("reproduce")
    return run, tiny_table("cacl-table5", run, seeds=1)


def files(run: Path) -> dict[str, int]:
    return {
        str(p): p.stat().st_mtime_ns for p in run.glob("r*/**/*.*") if p.suffix in (".json", ".safetensors")
    }


def test_rows_that_differ_in_scoring_share_a_training(table5):
    run, path = table5
    assert path == run / "cacl-table5" / "table.md"
    assert len([p for p in (run / "runs").iterdir() if p.is_dir()]) == 1
    rows = {
        json.loads(p.read_text())["row"]: json.loads(p.read_text()) for p in (run / "rows").glob("*.json")
    }
    assert set(rows) == {"cacl", "cacl-second-branch", "cacl-second-branch-colour"}
    scores = [row["scores"]["last"] for row in rows.values()]
    assert all(
        a != b for a, b in itertools.combinations(scores, 2)
    )  # the second branch on grey and on colour images
    assert rows["cacl-second-branch-colour"]["scored"]["view"] == "colour"
    assert {"best-on-test", "last"} <= set(rows["cacl"]["scores"])
    assert rows["cacl"]["cameras"] == "sampler"
    assert len(rows["cacl"]["source"]) == len(rows["cacl"]["test_digest"]) == 64
    assert {"packages", "device", "cores"} <= set(rows["cacl"]["machine"])
    text = path.read_text()
    assert "80.9" in text
    assert "paper, Market-1501" in text
    assert "--scale small" in text
    assert (run / "cacl-table5" / "report" / "index.html").stat().st_size > 1000


def test_a_finished_table_is_only_written_again(table5):
    run, path = table5
    before, text = files(run), path.read_text()
    tiny_table("cacl-table5", run, seeds=1)
    assert files(run) == before
    assert path.read_text() == text


def test_a_changed_option_makes_the_row_anew(table5, tmp_path):
    run, _ = table5
    before = files(run)
    tiny_table("cacl-table5", run, seeds=1, settings=("cluster.eps=0.5",), rows=["cacl"])
    assert len(files(run)) > len(before)
    assert before.items() <= files(run).items()
    assert "0.5" in (run / "cacl-table5" / "table.md").read_text()
    tiny_table("cacl-table5", run, seeds=1)  # the old rows are still there, and shown
    assert "cluster.eps=0.5" not in (run / "cacl-table5" / "table.md").read_text()


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_experiments_reproduce import tiny_table
tiny_table({name!r}, Path({run!r}), seeds={seeds})
"""


def start(name: str, run: Path, seeds: int = 1) -> subprocess.Popen[str]:
    script = SCRIPT.format(tests=str(Path(__file__).parent), name=name, run=str(run), seeds=seeds)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def test_two_processes_share_a_folder_and_no_row_is_made_twice(tmp_path):
    both = [start("cacl-table6", tmp_path, seeds=2) for _ in range(2)]
    told = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    begun = re.findall(r"^(\S+), street, seed (\d) ->", "\n".join(told), flags=re.M)
    assert sorted(begun) == sorted((row, seed) for row in ("cacl", "cscl") for seed in ("1", "2"))
    assert len(list((tmp_path / "rows").glob("*.json"))) == 4
    table = (tmp_path / "cacl-table6" / "table.md").read_text()
    assert "(2 seeds)" in table


def test_a_killed_row_goes_on_and_ends_as_if_nothing_had_happened(table5, tmp_path):
    whole, _ = table5
    killed = start("cacl-table5", tmp_path)
    until = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/checkpoint/last.safetensors")):
        assert killed.poll() is None, killed.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not list(tmp_path.glob("rows/*.json"))
    again = start("cacl-table5", tmp_path)
    told = again.communicate(timeout=300)[0]
    assert again.returncode == 0, told
    for path in (whole / "rows").glob("cacl*.json"):
        mine = tmp_path / "rows" / path.name
        if "0.5" in json.dumps(json.loads(path.read_text())["config"]["cluster"]["eps"]):
            continue  # of another test
        expected, got = json.loads(path.read_text()), json.loads(mine.read_text())
        assert got["scores"] == expected["scores"]
        assert got["fingerprint"] == expected["fingerprint"]


def test_a_row_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch, capsys):
    from reseen.reproduce import command

    real = command.measure

    def failing(job, out):
        if job.name == "cscl":
            raise ReseenError("epoch 1: the loss is not finite")
        return real(job, out)

    monkeypatch.setattr(command, "measure", failing)
    with pytest.raises(ReseenError, match=r"1 rows failed.*cscl, seed 1.*not finite"):
        tiny_table("cacl-table6", tmp_path, seeds=1)
    text = (tmp_path / "cacl-table6" / "table.md").read_text()
    assert re.search(r"\| CACL \| \d", text)
    assert "| CSCL | – |" in text
    assert "- cscl, seed 1: epoch 1: the loss is not finite" in text
    monkeypatch.setattr(command, "measure", real)
    tiny_table("cacl-table6", tmp_path, seeds=1)  # tried again, and forgotten
    assert "not finite" not in (tmp_path / "cacl-table6" / "table.md").read_text()


def test_a_claim_is_free_again_when_its_holder_is_killed(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from reseen.reproduce.results import claimed\n"
        f"with claimed(Path({str(tmp_path / 'row.lock')!r}), wait=False) as mine:\n"
        "    print(mine, flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "True"
    with claimed(tmp_path / "row.lock", wait=False) as mine:
        assert not mine
    holder.kill()
    holder.communicate()
    with claimed(tmp_path / "row.lock", wait=False) as mine:
        assert mine


def test_the_command_line_lists_names_and_says_what_is_missing(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    told = capsys.readouterr().out
    assert "cacl-table7" in told
    assert "r-siamnet-figure6" in told
    for words, expected in (
        (["cacl-table33"], "did you mean 'cacl-table3'|did you mean cacl-table3"),
        (["cacl-table3"], "needs --data: the paper's is Market-1501"),
        (["cacl-table3", "--data", "nowhere/at/all"], "nowhere/at/all"),
        (["cacl-table3", "--data", "street", "--row", "cacl-no-refin"], "did you mean cacl-no-refine"),
        (["cacl-table3", "--data", "street", "--seeds", "0"], "give 1 or more"),
        (["cacl-table3", "--data", "x="], "NAME=PATH"),
        (["cacl-table3", "--data", "street", "--scale", "tiny"], "unknown"),
        (
            ["cacl-table3", "--data", "street", "--set", "cluster.refine=none"],
            "cluster.refine: the rows of this",
        ),
        (["cacl-table3", "--data", "street", "--set", "seed=4"], "choose how many with --seeds"),
        (["cacl-figure2", "--data", "street", "--data", "a=b"], "give one --data"),
        (["cacl-table3", "--data", "a/b=c"], "NAME without /"),
    ):
        assert cli.main(["reproduce", *words]) == 2
        error = capsys.readouterr().err
        assert re.search(expected, error), error
        assert error.count("\n") == 1


def test_sources_are_a_path_a_named_path_or_the_street():
    assert parse_source("street").drawn
    assert parse_source("duke=/data/x").name == "duke"
    assert parse_source("/data/x").path == Path("/data/x")


def test_an_existing_path_is_a_path_even_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    assert parse_source("a=b").path == Path("a=b")
    assert parse_source("a=c").name == "a"


# --- figures ---


def test_figure_6_shows_the_first_seed_under_both_models(tmp_path, monkeypatch):
    from reseen.reproduce import command

    asked = []
    real = command.pictures

    def watched(table, jobs, data, out, folder):
        asked.append((list(jobs), [job.seed for job in jobs.values()], data.root.name))
        return real(table, jobs, data, out, folder)

    monkeypatch.setattr(command, "pictures", watched)
    path = tiny_table("cacl-figure6", tmp_path, seeds=2, settings=("train.epochs=1",))
    assert asked == [(["cacl-single", "cacl"], [1, 1], "crops-1")]
    assert (path.parent / "report" / "tsne.png").stat().st_size > 10_000
    assert "](report/tsne.png)" in path.read_text()


def test_mean_ap_against_epochs_has_a_line_for_each_scale_of_the_data(tmp_path):
    from reseen.reproduce.pictures import epochs_figure, test_curve

    lines = [{"epoch": 1, "test": {"mean_ap": 0.1}}, {"epoch": 2}, {"epoch": 3, "test": {"mean_ap": 0.3}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert test_curve(tmp_path) == ([1, 3], [0.1, 0.3])
    axes = epochs_figure({"half": test_curve(tmp_path), "all": ([1], [0.2])}).axes[0]
    assert [line.get_label() for line in axes.get_lines()] == ["half", "all"]
    assert axes.get_lines()[0].get_ydata().tolist() == [0.1, 0.3]


def test_runtime_times_each_detector_and_keeps_the_papers_apart(monkeypatch):
    from reseen.reproduce import runtime

    monkeypatch.setattr(runtime, "HEIGHT", 64)
    monkeypatch.setattr(runtime, "WIDTH", 96)
    monkeypatch.setattr(runtime, "SIZE", (60, 90))
    table = runtime.runtime_section(repeats=1).table
    assert table is not None
    ours = [row for row in table.rows if row[0].startswith("R-SiamNet")]
    assert {row[0].split(", ")[1] for row in ours} == set(runtime.DETECTORS)
    assert all(float(row[2].replace(",", "")) >= 0 and float(row[3].replace(",", "")) > 1 for row in ours)
    assert all(row[2] == "–" and "(paper)" in row[0] for row in table.rows if row not in ours)
