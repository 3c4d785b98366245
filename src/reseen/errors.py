"""The one error that users see. It imports nothing, so that ``reseen --help`` stays quick."""

__all__ = ["ReseenError"]  # `require` is for records of the package

LONGEST_WORD, LONGEST_LINE = 400, 2000  # characters; no path of a usual depth is longer


class ReseenError(Exception):
    """Something the user can mend. The message is one line and says what to do next.

    What it quotes of a file or of the command line may have any length, so long ones lose their middle.
    """

    def __init__(self, message: str = "") -> None:
        words = [_shortened(word, LONGEST_WORD) for word in message.split(" ")]
        super().__init__(_shortened(" ".join(words), LONGEST_LINE))


def require(condition: bool, message: str) -> None:
    """Raise :class:`ReseenError` unless ``condition`` holds."""
    if not condition:
        raise ReseenError(message)


def _shortened(text: str, longest: int) -> str:
    """The first and the last half of what is longer: what to do next stands at the end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}[... {len(text) - 2 * half:,} characters ...]{text[-half:]}"
