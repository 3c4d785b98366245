"""What runs said beside what was true: the table of docs/how-sure.md, from what their reports left behind.

for seed in 3 4 5; do reseen demo --seed $seed --run runs/demo-$seed; done
python benchmarks/how_sure.py runs/demo-3 runs/demo-4 runs/demo-5
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from reseen.tasks import CALIBRATION


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    trees = [json.loads((run / CALIBRATION).read_text()) for run in parser.parse_args().runs]
    print(f"judged by {trees[0]['judged_by']}; clusters across {trees[0]['groups']}:", end=" ")
    print(", ".join(str(tree["clusters"]) for tree in trees), end="; prior fitted: ")
    print(", ".join(f"{tree['test']['prior']:.4f}" for tree in trees), end="; true: ")
    tests = [tree["test"] for tree in trees]
    print(", ".join(f"{share(test):.4f}" for test in tests), end="\n\n")
    print("| said, between | pairs | said, mean | true, each run |\n| --- | --- | --- | --- |")
    edges = tests[0]["edges"]
    for part, (low, high) in enumerate(itertools.pairwise(edges)):
        pairs = np.array([test["pairs"][part] for test in tests])
        said = np.array([test["said"][part] or 0.0 for test in tests])
        true = " / ".join(
            "–" if test["true"][part] is None else f"{test['true'][part]:.3f}" for test in tests
        )
        mean = f"{(said * pairs).sum() / pairs.sum():.3f}" if pairs.any() else "–"
        print(f"| {low:g} and {high:g} | {int(pairs.sum()):,} | {mean} | {true} |")


def share(test: dict[str, list[float | None]]) -> float:
    """Of the pairs that were looked at, those of the same person."""
    pairs = np.array(test["pairs"], dtype=float)
    true = np.array([value or 0.0 for value in test["true"]])
    return float((pairs * true).sum() / pairs.sum())


if __name__ == "__main__":
    main()
