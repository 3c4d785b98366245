"""The protocols: which gallery, who is junk, and what a model must beat to have learnt anything."""

from reseen.evaluation.baselines import BASELINES
from reseen.evaluation.encoders import embed_crops, evaluate_encoder
from reseen.evaluation.protocol import ReidTest, open_test
from reseen.evaluation.reid import RankedLists, evaluate_features, evaluate_reranked, ranked_lists
from reseen.evaluation.rerank import rerank

__all__ = [
    "BASELINES",
    "RankedLists",
    "ReidTest",
    "embed_crops",
    "evaluate_encoder",
    "evaluate_features",
    "evaluate_reranked",
    "open_test",
    "ranked_lists",
    "rerank",
]
