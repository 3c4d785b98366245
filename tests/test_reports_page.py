"""The report says what the run folder holds, honestly, safely and without asking anyone."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

from reseen.errors import ReseenError
from reseen.pages.page import Section, write_report
from reseen.pages.tables import Table, summary_table
from reseen.reports import run as report
from reseen.reports.canvas import save_figure
from reseen.reports.run import run_report, save_comparison
from reseen.training.run_folder import read_lines, read_metrics

EVIL = '<script>alert("1")</script>&\'>'
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "aria-label", "aria-labelledby"}
ATTRIBUTES |= {"href", "id", "scope", "role", "tabindex", "width", "height", "alt", "src"}
CONFIG = """method: cacl
recipe: cacl-strong
seed: 7
data: {camera_aware: auto}
cluster: {camera_standardise: false}
train: {epochs: 6}
"""


@pytest.fixture(autouse=True)
def quick_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blank figure for the curves, which have tests of their own; ``real_curves`` keeps them."""
    if "real_curves" in request.fixturenames:
        return

    def blank(metrics: list[dict[str, Any]]) -> Figure:
        if not metrics:
            raise ReseenError("nothing to draw")
        return Figure(figsize=(2, 1))

    monkeypatch.setattr(report, "curves", blank)


@pytest.fixture
def real_curves() -> None:
    """Keeps :func:`quick_curves` away."""


class Page(HTMLParser):
    """Collects what the tests ask for, and that every tag is closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.replace("\u2011", "-")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def line(number: int, **more: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "images": 1200,
        "loss": {"total": 2.0 / number},
        "clusters": 10 * number,
        "outliers": 90,
        "cross_camera_share": 0.25,
        "label_free": 0.9 if number == 4 else 0.1,
        "criteria": {
            "stability": 0.1,
            **({"silhouette": 0.5} if number < 4 else {}),
        },  # once there were eight
        "warnings": ["only 10 clusters: lower cluster.k1"] if number in {1, 2, 5} else [],
        "seconds": {"epoch": 12.5},
        **more,
    }


def make_run(folder: Path, lines: list[dict[str, Any]] | None = None, config: str = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    scores = {2: 0.2, 4: 0.5, 6: 0.4}
    if lines is None:
        lines = [
            line(n, **({"test": {"mean_ap": scores[n], "rank1": 0.8}} if n in scores else {}))
            for n in range(1, 7)
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (folder / "config.yaml").write_text(config)
    (folder / "environment.json").write_text('{"torch": "2.11"}\n')
    return folder


def read(path: Path) -> Page:
    return Page(path.read_text())


def picture(path: Path, **texts: str) -> None:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 40, 3), 200, np.uint8)).save(path, pnginfo=info)


# --- metrics.jsonl ---


def test_a_file_torn_anywhere_gives_the_epochs_before(tmp_path: Path) -> None:
    lines = [json.dumps({"epoch": n, "note": "é"}, ensure_ascii=False) + "\n" for n in (1, 2, 3)]
    whole = "".join(lines).encode()
    ends = np.cumsum([len(x.encode()) for x in lines])
    for cut in range(len(whole) + 1):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:cut])
        complete = [n for n, end in enumerate(ends, start=1) if cut >= end - 1]  # the newline may be missing
        assert [x["epoch"] for x in read_metrics(tmp_path)] == complete


def test_metrics_are_sorted_the_later_of_two_lines_counts_and_a_broken_line_stops_nothing(
    tmp_path: Path,
) -> None:
    assert read_metrics(tmp_path) == []
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"epoch": 2, "a": 1}\n\n{"epoch": 1}\n{"epoch": 2, "a": 5}\n')
    assert read_metrics(tmp_path) == [{"epoch": 1}, {"epoch": 2, "a": 5}]
    for broken in ("nonsense", '{"a": 1}', '{"epoch": NaN}', "[1]"):
        file.write_text(f'{{"epoch": 1}}\n{broken}\n{{"epoch": 2, "a": NaN}}\n')
        assert read_metrics(tmp_path) == [{"epoch": 1}, {"epoch": 2, "a": None}]
        (line,) = read_lines(file, key="epoch").left_out
        assert line.startswith("metrics.jsonl, line 2: ")


# --- the standard report ---


def test_results_name_each_choice_and_its_own_scores(tmp_path: Path) -> None:
    page = read(run_report(make_run(tmp_path / "run")))
    assert page.rows[:4] == [
        ["choice", "epoch", "mAP", "rank-1", "camera ids in training", "chosen by"],
        ["last", "6", "40.0", "80.0", "yes", "nothing is chosen"],
        ["label-free", "3", "–", "–", "yes", "highest criterion, no identity read"],
        ["best-on-test", "4", "50.0", "80.0", "yes", "highest test mAP, test labels read"],
    ]
    assert "label-free choice, epoch 3, was not scored" in page.text
    assert "flatters the run" in page.text
    assert "6 of 6 epochs, 1,200 images without labels, method cacl, seed 7." in page.text
    assert "Epoch 1–2, 5: only 10 clusters: lower cluster.k1" in page.text
    epochs = next(i for i, row in enumerate(page.rows) if row[:2] == ["epoch", "mAP"])
    assert page.rows[epochs + 4] == ["4", "50.0", "80.0", "0.50", "40", "90", "25.0", "0.90", "12.50"]
    assert '"torch": "2.11"' in page.text
    assert "recipe: cacl-strong" in page.text


@pytest.mark.parametrize(
    ("change", "share", "said"),
    [
        (("camera_aware: auto", "camera_aware: 'off'"), 0.2, "no"),
        (("camera_aware: auto", "camera_aware: auto"), None, "no"),
        (("standardise: false", "standardise: true"), 0.2, "yes"),
    ],
)
def test_every_result_says_whether_cameras_were_read(
    tmp_path: Path, change: tuple[str, str], share: float | None, said: str
) -> None:
    lines = [line(1, test={"mean_ap": 0.1}, cross_camera_share=share)]
    page = read(run_report(make_run(tmp_path / "run", lines, CONFIG.replace(*change))))
    assert page.rows[0][3] == "camera ids in training"
    assert [row[3] for row in page.rows[1:4]] == [said] * 3


@pytest.mark.usefixtures("real_curves")
def test_the_page_loads_nothing_runs_nothing_and_describes_its_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    picture(run / "report" / "tsne.png", Title="Features", Description="Two point clouds.")
    page = read(run_report(run))
    assert not page.all("script")
    assert not page.all("link")
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    images = page.all("img")
    assert len(images) == 2
    assert all((i["src"] or "").startswith("data:image/png;base64,") and i["alt"] for i in images)
    assert images[1]["alt"] == "Features: described in the text above."
    assert "Two point clouds." in page.text
    assert images[0]["width"] == "883"  # 9.2 inches
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)
    assert all(a["href"] and a["href"].startswith("#") for a in page.all("a"))
    text = (run / "report" / "index.html").read_text()
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text


def test_a_second_report_is_the_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = run_report(run).read_bytes()
    assert sorted(p.name for p in (run / "report").iterdir()) == ["curves.png", "index.html"]
    assert run_report(run).read_bytes() == first


def test_everything_is_escaped(tmp_path: Path) -> None:
    lines = [line(1, warnings=[EVIL], test={"mean_ap": 0.1})]
    run = make_run(tmp_path / "run", lines, f"method: {json.dumps(EVIL)}\n# {EVIL}\n")
    (run / "environment.json").write_text(EVIL)
    picture(run / "report" / "other.png", Title=EVIL, Description=EVIL)
    save_comparison(run, [{"name": EVIL, EVIL: EVIL, "mean_ap": 0.5}])
    figure = Figure(figsize=(1, 1))
    table = Table((EVIL,), ((EVIL,),), EVIL)
    extra = Section(EVIL, EVIL, items=(EVIL,), table=table, figure=figure, alt=EVIL, code=EVIL)
    paths = [run_report(run), write_report(tmp_path / "other", sections=[extra], title=EVIL)]
    pages = [read(path) for path in paths]
    assert not any(page.all("script") for page in pages)
    assert sum(page.text.count(EVIL) for page in pages) >= 13
    assert {name for page in pages for _, a in page.tags for name in a} <= ATTRIBUTES
    assert not any("<script" in path.read_text() for path in paths)


def test_missing_pieces_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(ReseenError, match="not a run folder"):
        run_report(run)
    (run / "metrics.jsonl").write_text("")
    text = read(run_report(run)).text
    for sentence in (
        "There is no finished epoch",
        "There are no curves",
        "No picture was saved for: ranked-lists, augmentation, tsne.",
        "config.yaml is missing",
        "environment.json is missing",
    ):
        assert sentence in text
    text = read(run_report(make_run(tmp_path / "plain", [{"epoch": 1, "clusters": 4}]))).text
    assert "No test scores" in text
    assert "no label-free choice" in text
    assert "None: no epoch showed a sign of trouble." in text


def test_damaged_pieces_are_named_and_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [line(1)], "a: [unclosed\n")
    (run / "report").mkdir()
    (run / "report" / "tsne.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (run / "report" / "comparison.json").write_text('{"rows": 3')
    text = read(run_report(run)).text
    assert "tsne.png is not a readable PNG" in text
    assert "comparison.json cannot be read" in text
    with pytest.raises(ReseenError, match="not a readable PNG"):
        write_report(run, sections=[Section("x", figure=run / "report" / "tsne.png")])


def test_sections_pictures_comparison_and_evaluations_have_their_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    save_comparison(run, [{"name": "chance", "mean_ap": 0.01}])
    picture(run / "report" / "zebra.png", Description="Stripes.")
    save_figure(Figure(figsize=(1, 1)), run / "report" / "augmentation.png", title="Views", alt="Five views.")
    (run / "evaluations.jsonl").write_text('{"data": "street", "mean_ap": 0.31, "rank1": 0.5}\n{"da')
    page = read(run_report(run))
    titles = [a["id"] for a in page.all("section")]
    first, last = (
        ["result", "comparison", "warnings", "curves"],
        ["epochs", "evaluations", "left-out"],
    )
    assert titles == [*first, "views", "zebra", "not-shown", *last, "configuration", "environment"]
    assert "evaluations.jsonl, line 2: not JSON" in page.text
    assert ["street", "31.0", "50.0"] in page.rows
    assert ["chance", "1.0"] in page.rows
    assert "No picture was saved for: ranked-lists, tsne." in page.text
    assert len(page.all("img")) == 3
    assert [a["alt"] for a in page.all("img")][1:] == [
        "Views: described in the text above.",
        "Zebra: described in the text above.",
    ]
    assert "Five views." in page.text
    assert "Stripes." in page.text


def test_long_runs_fold_their_table(tmp_path: Path) -> None:
    short = read(run_report(make_run(tmp_path / "short")))
    long = read(run_report(make_run(tmp_path / "long", [line(n) for n in range(1, 60)])))
    assert len(long.all("details")) == len(short.all("details")) + 1


def test_two_sections_of_one_name_get_two_anchors(tmp_path: Path) -> None:
    page = read(write_report(tmp_path, sections=[Section("A b"), Section("a B"), Section("!")]))
    assert [a["id"] for a in page.all("section")] == ["a-b", "a-b-x", "section"]


# --- tables ---


def rendered(table: Table) -> str:
    console = Console(width=120, color_system=None, record=True, file=io.StringIO())
    console.print(table.to_rich())
    return console.export_text()


def test_summary_table_stresses_the_best_and_shows_percent(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"name": "[red]chance[/red]", "mean_ap": 0.0214, "rank1": 0.5, "cameras": False},
        {"name": "CACL", "mean_ap": 0.27, "rank1": 0.5, "images": 1200, "loss": 0.001},
        {"name": "broken", "mean_ap": float("nan"), "rank1": None},
    ]
    table = summary_table(rows, caption="Street.")
    assert table.columns == ("name", "mAP", "rank-1", "cameras", "images", "loss")
    assert table.rows == (
        ("[red]chance[/red]", "2.1", "50.0", "no", "–", "–"),
        ("CACL", "27.0", "50.0", "–", "1,200", "0.001"),
        ("broken", "–", "–", "–", "–", "–"),
    )
    assert table.strong == {(1, 1), (0, 2), (1, 2)}
    assert table.caption == "Street. Scores in %; best in bold."
    html = write_report(tmp_path, sections=[Section("Scores", table=table)]).read_text()
    assert html.count("<strong>") == 3
    assert '<td class="number"><strong>27.0</strong></td>' in html
    assert '<th scope="row">CACL</th>' in html
    text = rendered(table)
    assert "[red]chance[/red]" in text  # not read as markup
    assert "27.0" in text
    assert "Street." in text


def test_tables_refuse_what_does_not_fit() -> None:
    with pytest.raises(ReseenError, match="at least one row"):
        summary_table([])
    with pytest.raises(ReseenError, match="2 cells"):
        Table(("a", "b"), (("1",),))
    assert (
        summary_table([{"name": "alone", "mean_ap": 0.5}]).strong == frozenset()
    )  # best of one says nothing
