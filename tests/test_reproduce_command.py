"""Tables as commands: processes share and resume rows, a row that fails does not take the others with it."""

import itertools
import json
import re
import time
from pathlib import Path

import pytest

import processes
from reproduce_runs import tiny_table
from reseen import cli
from reseen.errors import ReseenError
from reseen.files import claimed
from reseen.reproduce.command import parse_source

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
    scores = [
        row["scores"]["last"] for row in rows.values()
    ]  # the second branch on grey and on colour images
    assert all(a != b for a, b in itertools.combinations(scores, 2))
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
from pathlib import Path
from reproduce_runs import tiny_table
tiny_table({name!r}, Path({run!r}), seeds={seeds})
"""


def start(name: str, run: Path, seeds: int = 1) -> processes.Started:
    return processes.start(SCRIPT.format(name=name, run=str(run), seeds=seeds))


def test_two_processes_share_a_folder_and_no_row_is_made_twice(tmp_path):
    both = [start("cacl-table6", tmp_path, seeds=2) for _ in range(2)]
    ended = [process.wait() for process in both]
    assert [status for status, _ in ended] == [0, 0], ended
    begun = re.findall(r"^(\S+), street, seed (\d) ->", "\n".join(said for _, said in ended), flags=re.M)
    assert sorted(begun) == sorted((row, seed) for row in ("cacl", "cscl") for seed in ("1", "2"))
    assert len(list((tmp_path / "rows").glob("*.json"))) == 4
    table = (tmp_path / "cacl-table6" / "table.md").read_text()
    assert "(2 seeds)" in table


def test_a_killed_row_goes_on_and_ends_as_if_nothing_had_happened(table5, tmp_path):
    whole, _ = table5
    killed = start("cacl-table5", tmp_path)
    until = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/checkpoint/last.safetensors")):
        assert killed.running, killed.said
        assert time.monotonic() < until
        time.sleep(0.02)
    killed.kill()
    assert not list(tmp_path.glob("rows/*.json"))
    status, said = start("cacl-table5", tmp_path).wait()
    assert status == 0, said
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
        "from reseen.files import claimed\n"
        f"with claimed(Path({str(tmp_path / 'row.lock')!r}), wait=False) as mine:\n"
        "    print(mine, flush=True)\n    time.sleep(60)\n"
    )
    holder = processes.start(code)
    while not (said := holder.said) and holder.running:
        time.sleep(0.02)
    assert said.strip() == "True"
    with claimed(tmp_path / "row.lock", wait=False) as mine:
        assert not mine
    holder.kill()
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
