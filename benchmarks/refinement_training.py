"""What Eq. (1) is worth in training: docs/methods/cacl.md, "What Eq. (1) amounts to".

    python benchmarks/refinement_training.py --data MARKET --weights squeezenet1_1.safetensors --out RUNS

CACL's single colour branch with fresh features and outliers as negatives, three seeds; data, steps and split:
parts/study.py. Since refinement as printed is almost DBSCAN at eps - 0.02, that cut alone is a row.
"""

from __future__ import annotations

from parts.study import Row, arguments, table, train_rows

FRESH = ("cluster.features=fresh", "cluster.outliers=negatives")
RULES = {
    "none-60": ("no refinement, eps .60", ("cluster.refine=none",)),
    "none-58": ("no refinement, eps .58", ("cluster.refine=none", "cluster.eps=0.58")),
    "paper-subcluster": ("`paper`, `subcluster` (the default)", ()),
    "paper-singletons": ("`paper`, `singletons`", ("cluster.removed_to=singletons",)),
    "official": ("`official`", ("cluster.refine=official", "cluster.removed_to=singletons")),
}
ROWS = {name: Row((words,), "cacl-single", (*FRESH, *settings)) for name, (words, settings) in RULES.items()}


def main() -> None:
    given = arguments(__doc__, seeds=[1, 2, 3]).parse_args()
    if not given.table:
        train_rows(ROWS, given)
    print("\n".join(table(ROWS, ("partition",), given.out, given.seeds)))


if __name__ == "__main__":
    main()
