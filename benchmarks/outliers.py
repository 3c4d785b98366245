"""Outliers kept, dropped or never drawn, by clustered features and branches: docs/results/outliers.md.

    python benchmarks/outliers.py --data MARKET --weights squeezenet1_1.safetensors --out RUNS

Data, steps and split: parts/study.py. Dropped outliers with remembered features are refused: their rows age until all
images are outliers.
"""

from __future__ import annotations

import itertools

from parts.study import Row, arguments, table, train_rows

RECIPES = {"cacl-single": "one, colour", "cacl": "two"}
GRID = {
    f"{outliers}-{features}-{recipe}": Row(
        (outliers, features, branches),
        recipe,
        (f"cluster.outliers={outliers}", f"cluster.features={features}"),
    )
    for outliers, features, (recipe, branches) in itertools.product(
        ("keep", "drop", "negatives"), ("memory", "fresh"), RECIPES.items()
    )
    if (outliers, features) != ("drop", "memory")
}


def main() -> None:
    parser = arguments(__doc__, seeds=[1, 2])
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=RECIPES, help="rows to train")
    given = parser.parse_args()
    if not given.table:
        train_rows({name: row for name, row in GRID.items() if row.recipe in given.recipes}, given)
    print("\n".join(table(GRID, ("outliers", "features", "branches"), given.out, given.seeds)))


if __name__ == "__main__":
    main()
