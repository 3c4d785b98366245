"""The protocols: which gallery, who is junk, and what a model must beat to have learnt anything."""

from reseen.evaluation.baselines import BASELINES
from reseen.evaluation.encoders import Keep, as_record, embed_crops, evaluate_encoder, sees_grey
from reseen.evaluation.outlook import foresee
from reseen.evaluation.protocol import CROSS_CAMERA, NothingToScoreError, ReidTest, in_words, open_test
from reseen.evaluation.reid import RankedLists, evaluate_features, evaluate_reranked, ranked_lists
from reseen.evaluation.rerank import rerank

__all__ = [
    "BASELINES",
    "CROSS_CAMERA",
    "Keep",
    "NothingToScoreError",
    "RankedLists",
    "ReidTest",
    "as_record",
    "embed_crops",
    "evaluate_encoder",
    "evaluate_features",
    "evaluate_reranked",
    "foresee",
    "in_words",
    "open_test",
    "ranked_lists",
    "rerank",
    "sees_grey",
]
