"""Pseudo labels from features: neighbours, Jaccard distance, DBSCAN, refinement; FINCH for person search.

Pure functions on arrays; distances are sparse, and no M x M matrix is ever formed.
"""

from reseen.clustering.dbscan import dbscan
from reseen.clustering.finch import finch
from reseen.clustering.jaccard import JaccardGraph, jaccard_distance, jaccard_graph
from reseen.clustering.nearest import nearest_neighbours
from reseen.clustering.refine import refine, refine_official, refined_parts
from reseen.clustering.reliability import keep_reliable, spcl_alpha, spcl_reliability

__all__ = [
    "JaccardGraph",
    "dbscan",
    "finch",
    "jaccard_distance",
    "jaccard_graph",
    "keep_reliable",
    "nearest_neighbours",
    "refine",
    "refine_official",
    "refined_parts",
    "spcl_alpha",
    "spcl_reliability",
]
