"""The tables and figures of both papers as data: their rows, the papers' own figures, and what they claim.

CACL: arXiv:2106.07846. R-SiamNet: the supplementary material of arXiv:2109.06109. A figure of a paper stands in
``paper`` and is printed in a column of its own, never as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

MARKET, DUKE, MSMT17, CUHK, PRW = "Market-1501", "DukeMTMC-reID", "MSMT17", "CUHK-SYSU", "PRW"
COLUMNS = {"crops": ("mean_ap", "rank1", "rank5", "rank10"), "scenes": ("mean_ap", "top1")}
TWO_STEP = "two-step"
Kind = Literal["crops", "scenes"]


@dataclass(frozen=True)
class Row:
    """One training and how it is scored.

    ``settings`` come after the recipe (and after the scale's). ``share``: of the training scenes (Fig. 5). ``paper``:
    data set to the paper's figures in percent, in the order of the table's columns.
    """

    label: str
    recipe: str
    settings: tuple[str, ...] = ()
    branch: Literal["first", "second"] | None = None
    view: Literal["colour", "grey"] | None = None  # what a branch is shown; None: as it was trained
    paths: Literal["search", "both"] | None = None
    share: float = 1.0
    paper: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """``better`` scores above ``worse`` (names of rows), in mAP: ``says`` is the paper's sentence in short."""

    says: str
    better: str
    worse: str


@dataclass(frozen=True)
class Table:
    """``rows`` by name, in the paper's order. ``ablates``: its rows differ from CACL in one thing (see scales)."""

    title: str
    task: Kind
    rows: Mapping[str, Row] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    needs: tuple[str, ...] = (MARKET,)  # the data that the paper used; others work too
    ablates: bool = False
    figure: str = ""  # which picture stands in place of, or beside, the table

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS[self.task]


def _market(*figures: float) -> dict[str, tuple[float, ...]]:
    return {MARKET: figures}


FULL = Row("CACL", "cacl", paper=_market(80.9, 92.7, 97.4, 98.5))
SINGLE = Row("w/o L_I & L_C", "cacl-single", paper=_market(68.1, 85.2, 94.0, 96.0))
CSCL = Row("CSCL", "cscl", paper=_market(81.0, 93.0, 97.2, 98.3))

ABLATION = {
    "cacl-single": SINGLE,
    "cacl-no-refine": Row("w/o cluster refine", "cacl-no-refine", paper=_market(73.4, 88.5, 94.7, 96.8)),
    "cacl-no-instance": Row("w/o L_I", "cacl-no-instance", paper=_market(80.4, 92.2, 97.1, 98.2)),
    "cacl-no-cluster-loss": Row("w/o L_C", "cacl-no-cluster-loss", paper=_market(76.6, 90.1, 96.3, 97.4)),
    "cacl-no-intra": Row("w/o L_C^intra", "cacl-no-intra", paper=_market(45.6, 68.2, 83.8, 88.3)),
    "cacl-no-inter": Row("w/o L_C^inter", "cacl-no-inter", paper=_market(80.4, 92.2, 96.5, 97.8)),
}
COMPONENTS = (
    Claim("L_I and L_C together help", "cacl", "cacl-single"),
    Claim("cluster refinement helps", "cacl", "cacl-no-refine"),
    Claim("L_I helps", "cacl", "cacl-no-instance"),
    Claim("L_C helps", "cacl", "cacl-no-cluster-loss"),
    Claim("L_C^intra helps", "cacl", "cacl-no-intra"),
    Claim("L_C^inter helps", "cacl", "cacl-no-inter"),
)
OURS = {  # the rows of Tables 1 and 2 that this code can train, and what goes beyond the paper
    "cacl": replace(
        FULL, paper={**FULL.paper, DUKE: (69.6, 82.6, 91.2, 93.8), MSMT17: (21.0, 45.4, 58.2, 63.6)}
    ),
    "cscl": CSCL,
    "spcl": Row(
        "SpCL",
        "spcl",
        paper={
            MARKET: (73.1, 88.1, 96.3, 97.7),
            DUKE: (65.3, 81.2, 90.3, 92.2),
            MSMT17: (19.1, 42.3, 55.6, 61.2),
        },
    ),
    "cluster-contrast": Row("Cluster Contrast", "cluster-contrast"),
    "cacl-official": Row("CACL, as released", "cacl-official"),
    "cacl-strong": Row("cacl-strong (ours)", "cacl-strong"),
    "single-strong": Row("single-strong (ours)", "single-strong"),
}
AGAINST_SPCL = (
    Claim("CACL is better than SpCL", "cacl", "spcl"),
    *(
        Claim(f"{name} is better than {label}", name, other)
        for name in ("cacl-strong", "single-strong")
        for label, other in (("CACL", "cacl"), ("SpCL", "spcl"), ("Cluster Contrast", "cluster-contrast"))
    ),
)

STEPS = {  # beyond the paper, each over the one before
    "strong-fresh": ("embedding clean images anew each epoch", "cluster.features=fresh"),
    "strong-drop": ("dropping outliers", "cluster.outliers=drop"),
}
TRIED = {  # each over both steps
    "strong-gem": ("GeM pooling", ("model.pooling=gem",)),
    "strong-memory": ("a memory of clusters", ("loss.centroid_update=momentum",)),
    "strong-16": ("16 images of a cluster in a batch", ("train.instances=16",)),
    "strong-warm-up": ("twice the learning rate, with a warm-up", ("train.lr=0.0007", "train.warmup=50")),
    "strong-camera-term": ("a term over centroids by camera", ("loss.camera_weight=0.5",)),
    "strong-cameras": ("standardising features per camera", ("cluster.camera_standardise=true",)),
}


def _steps() -> tuple[dict[str, Row], tuple[Claim, ...]]:
    """From CACL step by step, what was tried over the last, and what was chosen; and whether each helps."""
    rows, claims, last = {"cacl": FULL}, [], "cacl"
    words: tuple[str, ...] = ()
    for name, (label, setting) in STEPS.items():
        words = (*words, setting)
        rows[name] = Row(f"+ {label}", "cacl", words)
        claims.append(Claim(f"{label} helps", name, last))
        last = name
    for name, (label, settings) in TRIED.items():
        rows[name] = Row(f"+ both, {label}", "cacl", (*words, *settings))
        claims.append(Claim(f"{label} helps", name, last))
    rows["cacl-strong"] = Row("fresh features, outliers never drawn: cacl-strong", "cacl-strong")
    rows["single-strong"] = Row("+ both, one branch in colour: single-strong", "single-strong")
    claims.append(Claim("not drawing outliers is better than dropping them", "cacl-strong", last))
    claims.append(Claim("one branch in colour is better than two", "single-strong", last))
    claims.append(Claim("single-strong is better than CACL", "single-strong", "cacl"))
    return rows, tuple(claims)


SIAM = Row("R-SiamNet", "r-siamnet", paper={CUHK: (85.72, 86.86), PRW: (21.16, 73.36)})
NO_INSTANCE_LEVEL = ("search.self_instance=false", "search.inter_instance=false")
SCALES = {"a quarter of the scenes": 0.25, "half of the scenes": 0.5, "all scenes": 1.0}

TABLES: dict[str, Table] = {
    "cacl-table1": Table(
        "Comparison with the state of the art: the rows that can be trained here",
        "crops",
        OURS,
        AGAINST_SPCL,
        needs=(MARKET, DUKE),
    ),
    "cacl-table2": Table("MSMT17", "crops", OURS, AGAINST_SPCL, needs=(MSMT17,)),
    "cacl-table3": Table(
        "Ablation: one component left out", "crops", ABLATION | {"cacl": FULL}, COMPONENTS, ablates=True
    ),
    "cacl-table4": Table(
        "What the second branch is shown",
        "crops",
        {
            "cacl-colour-view": Row("T'", "cacl-colour-view", paper=_market(79.0, 90.6, 96.3, 97.1)),
            "cacl-jitter-view": Row("J(T')", "cacl-jitter-view", paper=_market(79.1, 90.8, 96.7, 97.8)),
            "cacl": replace(FULL, label="G(T')"),
        },
        (
            Claim("grey is better than T' alone", "cacl", "cacl-colour-view"),
            Claim("grey is better than colour jitter", "cacl", "cacl-jitter-view"),
        ),
        ablates=True,
    ),
    "cacl-table5": Table(
        "The two branches of one training",
        "crops",
        {
            "cacl": replace(FULL, label="F (colour)"),
            "cacl-second-branch": Row(
                "F' (grey), shown grey", "cacl", branch="second", paper=_market(43.8, 71.5, 83.9, 87.1)
            ),
            "cacl-second-branch-colour": Row(
                "F' (grey), shown colour",
                "cacl",
                branch="second",
                view="colour",
                paper=_market(43.8, 71.5, 83.9, 87.1),  # which of the two is the paper's, it does not say
            ),
        },
        (
            Claim("the first branch is better than the second", "cacl", "cacl-second-branch"),
            Claim(
                "the first branch is better than the second on colour images",
                "cacl",
                "cacl-second-branch-colour",
            ),
        ),
        ablates=True,
    ),
    "cacl-table6": Table(
        "Asymmetric and symmetric structure",
        "crops",
        {"cacl": FULL, "cscl": CSCL},
        (Claim("the symmetric structure brings a little", "cscl", "cacl"),),
        ablates=True,
    ),
    "cacl-table7": Table(
        "Complete ablation",
        "crops",
        {
            "cacl-no-clustering": Row(
                "w/o clustering", "cacl-no-clustering", paper=_market(0.3, 0.5, 1.2, 2.3)
            ),
            **ABLATION,
            "cacl-no-stopgrad": Row(
                "w/o stopGrad", "cacl-no-stopgrad", paper=_market(80.2, 92.0, 97.0, 97.6)
            ),
            "cscl-no-stopgrad": Row(
                "CSCL w/o stopGrad", "cscl-no-stopgrad", paper=_market(15.0, 31.7, 46.5, 54.2)
            ),
            "cacl": FULL,
        },
        (
            Claim("clustering helps", "cacl", "cacl-no-clustering"),
            *COMPONENTS,
            Claim("stop-gradient helps CACL a little", "cacl", "cacl-no-stopgrad"),
            Claim("CSCL without stop-gradient is far below", "cacl", "cscl-no-stopgrad"),
        ),
        ablates=True,
    ),
    "cacl-strong": Table("Beyond the paper: from CACL one step at a time", "crops", *_steps()),
    "cacl-figure2": Table("Figures 2 and 4: what training sees", "crops", figure="augmentation"),
    "cacl-figure6": Table(
        "t-SNE of 1,000 training images of 60 identities",
        "crops",
        {"cacl-single": SINGLE, "cacl": FULL},
        ablates=True,
        figure="tsne",
    ),
    "r-siamnet-table5": Table(
        "Paths at test",
        "scenes",
        {
            "both-paths": Row("two paths", "r-siamnet", paths="both", paper={CUHK: (85.65, 86.73)}),
            "r-siamnet": Row("search path", "r-siamnet", paper={CUHK: (85.72, 86.86)}),
        },
        (Claim("the search path alone is better than both", "r-siamnet", "both-paths"),),
        needs=(CUHK,),
    ),
    "r-siamnet-table6": Table(
        "Detectors",
        "scenes",
        {
            "faster-rcnn": Row("Faster R-CNN", "r-siamnet-faster-rcnn", paper={CUHK: (84.84, 85.72)}),
            "retinanet": Row("RetinaNet", "r-siamnet-retinanet", paper={CUHK: (85.39, 86.59)}),
            "r-siamnet": Row("RepPoints", "r-siamnet", paper={CUHK: (85.72, 86.86)}),
        },
        (
            Claim("RepPoints is better than Faster R-CNN", "r-siamnet", "faster-rcnn"),
            Claim("RepPoints is better than RetinaNet", "r-siamnet", "retinanet"),
        ),
        needs=(CUHK,),
    ),
    "r-siamnet-table7": Table(
        "Two steps",
        "scenes",
        {
            TWO_STEP: Row("RepPoints + SpCL", TWO_STEP, paper={CUHK: (73.43, 74.79)}),
            "r-siamnet": Row("R-SiamNet", "r-siamnet", paper={CUHK: (85.72, 86.86)}),
        },
        (Claim("R-SiamNet is better than two steps", "r-siamnet", TWO_STEP),),
        needs=(CUHK,),
    ),
    "r-siamnet-table8": Table(
        "The image filter of the clustering",
        "scenes",
        {
            "no-filter": Row(
                "R-SiamNet w/o filter",
                "r-siamnet-no-filter",
                paper={CUHK: (84.74, 85.64), PRW: (20.31, 72.23)},
            ),
            "r-siamnet": SIAM,
        },
        (Claim("the filter helps", "r-siamnet", "no-filter"),),
        needs=(CUHK, PRW),
    ),
    "r-siamnet-table9": Table("Runtime of one scene of 900 x 1500", "scenes", needs=(), figure="runtime"),
    "r-siamnet-figure5": Table(
        "mAP against epochs for three scales of data",
        "scenes",
        {
            f"share-{share:g}": Row(label, "r-siamnet", ("train.evaluate_every=1",), share=share)
            for label, share in SCALES.items()
        },
        needs=(CUHK,),
        figure="epochs",
    ),
    "r-siamnet-figure6": Table(
        "t-SNE of 10 identities under three settings",
        "scenes",
        {
            "detection-alone": Row(
                "w/o L_ins & L_int & L_clu", "r-siamnet", (*NO_INSTANCE_LEVEL, "search.cluster=false")
            ),
            "no-cluster-loss": Row("w/o L_clu", "r-siamnet", ("search.cluster=false",)),
            "r-siamnet": SIAM,
        },
        needs=(PRW,),
        figure="tsne",
    ),
}
