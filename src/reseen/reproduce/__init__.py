"""``reseen reproduce``: a paper's table or figure as one command, resumable, ours beside theirs."""

from reseen.reproduce.command import list_tables, reproduce, reproduce_or_list

__all__ = ["list_tables", "reproduce", "reproduce_or_list"]
