"""Tables as data: every row resolves, fingerprints tell rows apart, and what is said of results."""

import re
from dataclasses import replace

import numpy as np
import pytest

from reproduce_runs import TINY_STREETS, digests, result
from reseen.config import differences, recipe_names, resolve
from reseen.config.resolve import RECIPES
from reseen.errors import ReseenError
from reseen.reproduce.compare import Finding, findings, papers_data, spread
from reseen.reproduce.results import (
    Digests,
    read_result,
    row_fingerprint,
    write_result,
)
from reseen.reproduce.scales import configuration_of
from reseen.reproduce.tables import CUHK, MARKET, MSMT17, PRW, TABLES, TWO_STEP, Claim
from reseen.reproduce.write import Block, as_csv, main_cells, markdown, sources_differ
from worlds import tiny

ROWS = {  # one row of each kind: the same recipe and settings stand in several tables
    (row.recipe, row.settings, table.task, table.ablates): (name, row_name)
    for name, table in TABLES.items()
    for row_name, row in table.rows.items()
}


# --- the tables as data ---


@pytest.mark.parametrize(("table", "row"), ROWS.values())
def test_every_row_has_a_configuration_on_every_kind_of_data(table, row):
    known = TABLES[table]
    real = MSMT17 if known.task == "crops" else CUHK
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


def test_strong_recipes_are_their_steps_and_one_branch():
    table = TABLES["cacl-strong"]
    rows = {name: configuration_of(row, table, MARKET, "full", 1) for name, row in table.rows.items()}
    changed = differences(rows["strong-drop"], rows["single-strong"])
    assert set(changed) == set(differences(resolve("cacl"), resolve("cacl-single")))
    assert set(differences(rows["cacl"], rows["strong-drop"])) == {"cluster.features", "cluster.outliers"}
    assert set(differences(rows["strong-drop"], rows["cacl-strong"])) == {"cluster.outliers"}


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


def test_a_changed_option_changes_the_fingerprint_and_where_it_runs_does_not():
    config = tiny()
    scored: dict[str, object] = {"branch": None}
    data = Digests("train", "test")
    base = row_fingerprint([config], data, ("none",), scored=scored)
    moved = tiny("cacl", "data.workers=3", "train.device=cuda")
    assert row_fingerprint([moved], data, ("none",), scored=scored) == base
    others = [
        row_fingerprint([tiny("cacl", word)], data, ("none",), scored=scored)
        for word in (
            "cluster.eps=0.5",
            "seed=2",
            "train.epochs=3",
            "loss.instance=false",
            "train.evaluate_every=1",
        )
    ]
    others += [
        row_fingerprint([config], Digests("other", "test"), ("none",), scored=scored),
        row_fingerprint([config], Digests("train", "other"), ("none",), scored=scored),
        row_fingerprint([config], data, ("imagenet",), scored=scored),
        row_fingerprint([config], data, ("none",), scored={"branch": "second"}),
    ]
    assert len({base, *others}) == len(others) + 1


def test_the_data_digest_sees_identities_and_files(market_folder):
    from reseen.data import open_data

    data = open_data(market_folder)
    before = digests("crops", data)
    assert digests("crops", open_data(market_folder)) == before
    assert data.query is not None
    renamed = replace(data, query=replace(data.query, identities=data.query.identities + 1))
    assert (digests("crops", renamed).train, digests("crops", renamed).test != before.test) == (
        before.train,
        True,
    )
    fewer = digests("crops", replace(data, train=data.train[:-1], train_identities=None))
    assert (fewer.test, fewer.train != before.train) == (before.test, True)


def test_the_digest_of_scenes_sees_the_right_answers(tmp_path):
    from reseen.data.galleries import galleries_by_identity
    from reseen.street import draw_scenes

    sizes = {"train_scenes": 4, "test_scenes": 6, "train_identities": 6, "test_identities": 6}
    data = draw_scenes(tmp_path / "street", seed=1, cameras=2, persons=(2, 4), **sizes)
    before = digests("scenes", data)
    assert data.test_identities is not None
    swapped = tuple(labels[::-1].copy() for labels in data.test_identities)  # the same boxes, other persons
    answers = galleries_by_identity(data.test, data.test_names, swapped, data.probes)
    changed = digests("scenes", replace(data, read_gallery=answers))
    assert (changed.train, changed.test != before.test) == (before.train, True)


@pytest.fixture
def market_folder(tmp_path):
    from reseen.street import draw_crops

    draw_crops(tmp_path / "street", seed=1, **TINY_STREETS.crops)
    return tmp_path / "street"


# --- results and what is said of them ---


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
    assert cells.columns[5:8] == ("queries scored", "seeds", "cameras read")
    assert rows["CACL"][5:8] == ("–", "1, 2", "sampler")  # these results do not say how many
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
