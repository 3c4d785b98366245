"""Regular expressions that find the camera, or the person, in an image's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reseen.data.paths import shown
from reseen.errors import ReseenError


@dataclass(frozen=True)
class Patterns:
    """``camera`` and ``identity``: regular expressions whose only group, or group of that name, is the value."""

    camera: str | None = None
    identity: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Which of them there are."""
        return tuple(name for name in ("camera", "identity") if getattr(self, name) is not None)

    def cameras(self, names: Sequence[str]) -> list[str] | None:
        """The camera in each name, "" without a match. None: no pattern. Raises ReseenError, see :func:`searched`."""
        return None if self.camera is None else searched(self.camera, "camera", names)

    def identities(self, names: Sequence[str]) -> list[str] | None:
        """The person in each name, likewise."""
        return None if self.identity is None else searched(self.identity, "identity", names)


def searched(pattern: str, what: str, names: Sequence[str]) -> list[str]:
    """What ``pattern`` finds in each of ``names``, "" without a match.

    Raises:
        ReseenError: no regular expression, no group, or no match at all.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ReseenError(f"the {what} pattern {pattern!r} is not a regular expression: {error}") from error
    if what not in compiled.groupindex and compiled.groups != 1:
        raise ReseenError(
            f"the {what} pattern {pattern!r} has {compiled.groups} groups: put one pair of parentheses "
            f"around the {what}, or name it (?P<{what}>...)"
        )
    group: str | int = what if what in compiled.groupindex else 1
    found = [(match[group] or "") if (match := compiled.search(name)) else "" for name in names]
    if not any(found):
        raise ReseenError(
            f"the {what} pattern {pattern!r} matches no image, for example not {shown(names[0])}"
        )
    return found
