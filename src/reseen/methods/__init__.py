"""Only what a paper changes: one file per method, one literal dictionary."""

from typing import Any

from reseen.errors import ReseenError
from reseen.methods import cacl, cluster_contrast, r_siamnet, spcl
from reseen.methods.common import ON_CROPS, OneBranch, embed_clean, first_view
from reseen.methods.labelling import pseudo_labels
from reseen.training import Method

METHODS: dict[str, Method[Any, Any]] = {
    "cacl": cacl.METHOD,
    "spcl": spcl.METHOD,
    "cluster-contrast": cluster_contrast.METHOD,
    "r-siamnet": r_siamnet.METHOD,
}


def get_method(name: str) -> Method[Any, Any]:
    """The method behind a configuration's ``method``. CSCL is ``cacl`` with ``loss.symmetric``."""
    if name not in METHODS:
        raise ReseenError(
            f"there is no method {name!r}: choose one of {', '.join(METHODS)}, or hand over your own as method="
        )
    return METHODS[name]


__all__ = ["METHODS", "ON_CROPS", "OneBranch", "embed_clean", "first_view", "get_method", "pseudo_labels"]
