"""``reseen reproduce``: a paper's table or figure as one command, resumable, ours beside theirs."""

from reseen.reproduce.command import reproduce, reproduce_or_list

__all__ = ["reproduce", "reproduce_or_list"]
