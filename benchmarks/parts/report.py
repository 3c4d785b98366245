"""Tables and the figure of the clustering benchmark, from its lines of JSON."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Case = tuple[str, str, int, int, str, str]  # set, rank, N, D, peer, device
Cost = Callable[[Record], float]
NAMES = {"spcl": "SpCL", "cluster-contrast": "Cluster Contrast", "": "alone"}
SETS = {"latent": "rank 160", "full": "full rank", "own": "own"}
WORK = ("search", "graph", "dbscan")


def whole_cpu(side: Record) -> float:
    return float(side["whole_cpu"])


def whole_wall(side: Record) -> float:
    return float(side["whole_wall"])


def work(side: Record) -> float:
    """CPU seconds after imports and loading."""
    return float(sum(side["cpu"][part] for part in WORK))


def after_search(side: Record) -> float:
    return float(side["cpu"]["graph"] + side["cpu"]["dbscan"])


def peak(side: Record) -> float:
    return float(side["peak_mib"])


def above_base(side: Record) -> float:
    return float(side["peak_mib"] - side["base_mib"])


def tables(records: list[Record], code: str) -> str:
    """Everything that is finished, in Markdown."""
    by_case: dict[Case, list[Record]] = {}
    for record in records:
        by_case.setdefault(case_of(record), []).append(record)
    by_case = dict(sorted(by_case.items()))
    sections = [
        cost_table(by_case),
        parts_table(by_case),
        equality_table(by_case),
        verify_table(by_case),
        growth_lines(records),
        *made_with(records, code),
    ]
    return "\n\n".join(section for section in sections if section)


def case_of(record: Record) -> Case:
    return tuple(record[name] for name in ("set", "rank", "size", "dim", "peer", "device"))


def name_of(case: Case) -> str:
    kind, rank, size, dim, peer, device = case
    where = "" if device == "cpu" else f", {device}"
    return f"{size:,} x {dim} {kind}, {SETS[rank]}{where} | {NAMES[peer]}"


def pairs(records: Iterable[Record], threads: int) -> list[Record]:
    return [record for record in records if record["what"] == "pair" and record["threads"] == threads]


def only(records: Iterable[Record], what: str) -> Record | None:
    return next((record for record in records if record["what"] == what), None)


def cost_table(by_case: dict[Case, list[Record]]) -> str:
    lines = [
        "| features | peer | threads | pairs | CPU s, ours / peer | ratio, CPU | wall s, ours / peer | ratio, wall "
        "| ratio after the search, CPU | peak MiB, ours / peer | ratio | above base, ours / peer | ratio |",
        "|" + " --- |" * 13,
    ]
    for case, records in by_case.items():
        first = only(records, "first")
        for threads in sorted({record["threads"] for record in records if record["what"] == "pair"}):
            found = pairs(records, threads)
            agreed = not case[4] or (first is not None and all(first["equality"]["same_lists"]["labels"]))
            cells = [
                f"{name_of(case)} | {threads} | {len(found)}",
                *columns(found, whole_cpu, agreed, ".2f"),
                *columns(found, whole_wall, agreed, ".2f"),
                columns(found, after_search, agreed, ".2f")[1],
                *columns(found, peak, agreed, ",.0f"),
                *columns(found, above_base, agreed, ",.0f"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def columns(found: list[Record], cost: Cost, agreed: bool, form: str) -> tuple[str, str]:
    """Medians of both sides, and peer / ours pair by pair as min / median / max."""
    ours = [cost(record["ours"]) for record in found]
    if not all("theirs" in record for record in found):
        return f"{statistics.median(ours):{form}}", ""
    theirs = [cost(record["theirs"]) for record in found]
    middle = f"{statistics.median(ours):{form}} / {statistics.median(theirs):{form}}"
    if not agreed:
        return middle, "none: other labels"
    ratios = sorted(b / max(a, 1e-3) for a, b in zip(ours, theirs, strict=True))
    return middle, f"{ratios[0]:.2f} / **{statistics.median(ratios):.2f}** / {ratios[-1]:.2f}"


def parts_table(by_case: dict[Case, list[Record]]) -> str:
    """Where one thread's CPU seconds go, medians."""
    parts = ("import", "load", *WORK)
    lines = [
        f"| features | peer | side | {' | '.join(f'{part}, CPU s' for part in parts)} | refinement besides |",
        "|" + " --- |" * (len(parts) + 4),
    ]
    for case, records in by_case.items():
        found, first = pairs(records, 1), only(records, "first")
        for side in ("ours", "theirs"):
            costs = [record[side]["cpu"] for record in found if side in record]
            if costs:
                cells = [f"{statistics.median(cost[part] for cost in costs):.2f}" for part in parts]
                refine = f"{first['refine_cpu']:.2f}" if side == "ours" and first else ""
                lines.append(f"| {name_of(case)} | {side} | {' | '.join(cells)} | {refine} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def equality_table(by_case: dict[Case, list[Record]]) -> str:
    lines = [
        "| features | peer | mAP | clusters at .60, .58 | same labels, end to end | same labels, equal lists "
        "| pairs within .60, ours / peer | max difference, end to end | max difference, equal lists "
        "| rows with other neighbours | similarity gap there, at most "
        "| rows not at 0 from themselves, peer |",
        "|" + " --- |" * 12,
    ]
    for case, records in by_case.items():
        first = only(records, "first")
        if first is None or "equality" not in first:
            continue
        e = first["equality"]
        whole, fed, other = e["end_to_end"], e["same_lists"], e["other_rows"]
        lines.append(
            f"| {name_of(case)} | {'' if e['map'] is None else format(e['map'], '.2f')} "
            f"| {' and '.join(map(str, e['clusters']))} | {yes(whole['labels'])} | {yes(fed['labels'])} "
            f"| {whole['pairs'][0]:,} / {whole['pairs'][1]:,} | {whole['max_difference']:.1e} "
            f"| {fed['max_difference']:.1e} | {other['count']} | {other['widest_gap']:.1e} "
            f"| {fed.get('not_0_to_itself', '')} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def yes(each: list[bool]) -> str:
    return "yes" if all(each) else "no: " + ", ".join("yes" if one else "no" for one in each)


def verify_table(by_case: dict[Case, list[Record]]) -> str:
    lines = [
        "| features | peer | sampled rows | neighbour lists that differ | similarities off by | rows of V, off by "
        "| pairs, distances off by | pairs missing | labels follow DBSCAN's definition |",
        "|" + " --- |" * 9,
    ]
    for case, records in by_case.items():
        record = only(records, "verify")
        if record is None:
            continue
        v = record["verify"]
        lines.append(
            f"| {name_of(case)} | {v['rows']} | {v['other_lists']} of {v['lists']:,} "
            f"| {v['similarity_difference']:.1e} | {v['weight_rows']:,}, {v['weight_difference']:.1e} "
            f"| {v['pairs']:,}, {v['distance_difference']:.1e} | {v['missing_pairs']} | {yes(v['labels'])} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def curves(records: Iterable[Record], rank: str, cost: Cost) -> dict[str, list[tuple[int, float]]]:
    """Median cost against N of ``usual`` sets, one thread on the CPU: "" is ours, others by the peer's name."""
    values: dict[str, dict[int, list[float]]] = {}
    for record in pairs(records, 1):
        if (record["set"], record["rank"], record["device"]) == ("usual", rank, "cpu"):
            values.setdefault("", {}).setdefault(record["size"], []).append(cost(record["ours"]))
            if "theirs" in record:
                values.setdefault(record["peer"], {}).setdefault(record["size"], []).append(
                    cost(record["theirs"])
                )
    return {
        side: [(size, statistics.median(found)) for size, found in sorted(by_size.items())]
        for side, by_size in sorted(values.items())
    }


def exponent(points: list[tuple[int, float]]) -> float:
    """Slope of a line through the points in log-log."""
    logs = [(math.log(size), math.log(max(value, 1e-3))) for size, value in points]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def growth_lines(records: list[Record]) -> str:
    lines = []
    for rank in ("latent", "full"):
        for title, cost in (("CPU time after loading", work), ("peak memory above base", above_base)):
            for side, points in curves(records, rank, cost).items():
                if len(points) < 2:
                    continue
                steps = ", ".join(f"{exponent(list(two)):.2f}" for two in itertools.pairwise(points))
                who = f"{NAMES[side] if side else 'reseen'}, usual set, {SETS[rank]}"
                sizes = f"{points[0][0]:,} to {points[-1][0]:,} images"
                lines.append(
                    f"- {title}, {who}: N^{exponent(points):.2f} over {sizes}; from size to size {steps}"
                )
    return "\n".join(lines)


def made_with(records: list[Record], code: str) -> list[str]:
    """Machine, dates, versions; and whether reseen's clustering has changed since."""
    lines = []
    for machine in sorted({record["machine"] for record in records}):
        dates = sorted({record["date"] for record in records if record["machine"] == machine})
        lines.append(f"{machine}; {dates[0]} to {dates[-1]}.")
    versions = {
        f"{name} {version}"
        for record in records
        for side in (record.get("versions", {}), record.get("peer_versions", {}))
        for name, version in side.items()
        if version
    }
    lines.append(", ".join(sorted(versions)))
    old = sum(record["code"] != code for record in records)
    if old:
        lines.append(
            f"{old} of {len(records)} lines were measured with other code of reseen's clustering than this."
        )
    return lines


def save_growth(records: list[Record], path: Path, *, rank: str) -> None:
    """Cost against N, log-log: CPU seconds and memory, a panel each."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    from reseen.reports.canvas import STYLE, WIDTH, save_figure

    panels = (
        ("CPU seconds, features to labels", work, 10, lambda value, _: f"{value:g} s"),
        ("Peak memory above the loaded features", above_base, 4, mebibytes),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
        for axes, (title, cost, base, form) in zip(figure.subplots(1, 2), panels, strict=True):
            axes.set_title(title)
            axes.set_xscale("log")
            axes.set_yscale("log", base=base)
            sizes = draw_curves(axes, curves(records, rank, cost))
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.yaxis.set_major_locator(LogLocator(base=base))
            axes.yaxis.set_major_formatter(form)
            axes.minorticks_off()
            axes.set_xlabel("images")
            axes.margins(x=0.07, y=0.16)
        title, alt = (
            "Cost of clustering against the number of images",
            "Two log-log panels: CPU time and memory.",
        )
        save_figure(figure, path, title=title, alt=alt)


def draw_curves(axes: Any, found: dict[str, list[tuple[int, float]]]) -> list[int]:
    """A line and its name for each side; returns all sizes."""
    from reseen.reports.canvas import BLUE, ORANGE, VERMILLION

    looks = {"": (BLUE, "o", "-"), "spcl": (VERMILLION, "s", "--"), "cluster-contrast": (ORANGE, "^", ":")}
    for side, points in found.items():
        colour, marker, dash = looks[side]
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, linestyle=dash)
        grows = rf" $\propto N^{{{exponent(points):.2f}}}$" if len(points) > 1 else ""
        axes.annotate(
            f"{NAMES[side] if side else 'reseen'}{grows}",
            points[-2:][0],  # beside a rising line: above to the left, or below to the right
            xytext=(-8, 3) if side else (8, -3),
            textcoords="offset points",
            ha="right" if side else "left",
            va="bottom" if side else "top",
            color=colour,
            fontweight="bold",
        )
    return sorted({size for points in found.values() for size, _ in points})


def mebibytes(value: float, _: object) -> str:
    return f"{value / 1024:g} GiB" if value >= 1024 else f"{value:g} MiB"
