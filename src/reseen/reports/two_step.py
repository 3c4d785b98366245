"""The page of a run in two steps; each step has its own page below it."""

from __future__ import annotations

from pathlib import Path

from reseen.pages.page import Section, write_report
from reseen.pages.tables import summary_table
from reseen.reports.run import SCENE_PICTURES, covered, evaluations, left_out, pictures, settings
from reseen.tasks.two_step.crops import MANIFEST, in_words, read_summary
from reseen.training.run_folder import read_metrics

STEPS = (
    "detector: trained for detection alone. Its own page is detector/report/index.html in the run folder. Search "
    "scores there are those of a feature that nobody trained.",
    "crops: {crops}.",
    "reid: trained on these crops. Its own page is reid/report/index.html.",
)


def two_step_report(run_dir: Path) -> Path:
    """Write RUN/report/index.html from what the run folder holds; returns its path."""
    metrics = read_metrics(run_dir)
    crops = run_dir / "crops"
    cut = in_words(read_summary(crops)) if (crops / MANIFEST).exists() else "not cut out yet"
    result = Section("Result", "There are no scores yet, or the data has no queries.")
    if metrics and "test" in metrics[-1]:
        scores = {k: v for k, v in covered(metrics[-1]["test"]).items() if isinstance(v, int | float | str)}
        result = Section(
            "Result",
            "Both steps at their last epoch; nothing was chosen. At test, crops are cut from detected boxes; only the "
            "query's own box is given.",
            table=summary_table([{"name": "two-step", **scores}]),
        )
    sections = [
        result,
        Section("Steps", items=tuple(step.format(crops=cut) for step in STEPS)),
        *pictures(run_dir, {"search-result": SCENE_PICTURES["search-result"]}),
        *evaluations(run_dir),
        *left_out(run_dir),
        *settings(run_dir),
    ]
    return write_report(
        run_dir,
        sections=sections,
        title=f"two-step · {run_dir.resolve().name}",
        lede="A detector, then re-identification of what it cut out.",
    )
