"""The protocols: which gallery, who is junk, and what a model must beat to have learnt anything."""

from reseen.evaluation.baselines import BASELINES
from reseen.evaluation.reid import RankedLists, evaluate_features, ranked_lists

__all__ = ["BASELINES", "RankedLists", "evaluate_features", "ranked_lists"]
