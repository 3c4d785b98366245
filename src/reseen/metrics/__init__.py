"""Scores as pure functions on arrays or tensors: re-identification, person search, detection, clustering."""

from reseen.metrics.answers import Coverage
from reseen.metrics.clusters import ClusteringScores, clustering_scores, cross_camera_share, feature_spread
from reseen.metrics.label_free import DEFAULT_CRITERION, label_free_criteria
from reseen.metrics.reid import ReidScores, reid_scores, reid_scores_from_blocks, reid_scores_from_distances
from reseen.metrics.search import (
    DetectionScores,
    SearchScores,
    box_iou,
    detection_scores,
    person_search_scores,
)
from reseen.records import SceneDetections, SearchQuery

__all__ = [
    "DEFAULT_CRITERION",
    "ClusteringScores",
    "Coverage",
    "DetectionScores",
    "ReidScores",
    "SceneDetections",
    "SearchQuery",
    "SearchScores",
    "box_iou",
    "clustering_scores",
    "cross_camera_share",
    "detection_scores",
    "feature_spread",
    "label_free_criteria",
    "person_search_scores",
    "reid_scores",
    "reid_scores_from_blocks",
    "reid_scores_from_distances",
]
