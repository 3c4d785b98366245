"""Small tables of the papers for tests: a drawn street, a few steps a row; and results that were not trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reseen.data import fingerprint
from reseen.metrics import DEFAULT_CRITERION
from reseen.records import ReidData, SearchData
from reseen.reproduce import reproduce
from reseen.reproduce.kinds import KINDS, Streets
from reseen.reproduce.results import Digests, Result
from reseen.reproduce.tables import MARKET
from worlds import TINY

TINY_STREETS = Streets(
    crops={"train_identities": 8, "test_identities": 6, "cameras": 2, "frames": 2}, warm_up_epochs=1
)
SETTINGS = [word for word in TINY if "backbone" not in word]


def tiny_table(name: str, run: Path, *, settings: tuple[str, ...] = (), **given) -> Path:
    words = [*SETTINGS, *settings]
    return reproduce(
        name, data=["street"], scale="small", run=run, settings=words, streets=TINY_STREETS, **given
    )


def digests(task: str, data: ReidData | SearchData) -> Digests:
    return Digests(fingerprint(data.train, data.root), KINDS[task].test_digest(data))


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
