"""The exact search: which rows are most similar to each row, and how similar the least similar one is.

``proxies.py`` bounds, ``sweep.py`` multiplies, ``neighbours.py`` settles. Other rooms import from here only.
"""

from reseen.clustering.nearest.neighbours import as_features, lowest_similarities, nearest_neighbours

__all__ = ["as_features", "lowest_similarities", "nearest_neighbours"]
