"""The processes of one job: who they are, how they join, what they tell each other."""

from reseen.distributed.joining import join
from reseen.distributed.ranks import ALONE, Ranks

__all__ = ["ALONE", "Ranks", "join"]
