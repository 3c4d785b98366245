"""What a score speaks of, from the command line: who was scored, who could not be, and what is never an answer."""

from __future__ import annotations

from pathlib import Path

from command_runs import done, lines

# --- run folders with what earlier versions wrote ---


def test_a_run_folder_with_a_nan_is_reported_resumed_and_scored(finished: Path, world: Path) -> None:
    """Scores that could not be computed were written as NaN, which is no JSON."""
    (finished / "evaluations.jsonl").write_text('{"data": "mine", "mean_ap": NaN, "rank1": NaN}\n{"torn')
    metrics = finished / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"mean_ap": ', '"mean_ap": NaN, "was": ', 1))
    done("report", finished)
    page = (finished / "report" / "index.html").read_text()
    assert "evaluations.jsonl, line 1" in page
    assert "evaluations.jsonl, line 2" in page
    done("evaluate", finished, "--data", world)
    done("train", "cacl", "--data", world, "--run", finished, "--resume")
    assert "NaN" not in metrics.read_text()
    assert [record["epoch"] for record in lines(metrics)] == [1, 2]
    assert (finished / "evaluations.jsonl").read_text().count("\n") == 3
