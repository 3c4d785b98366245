"""The one error that users see. It imports nothing, so that ``reseen --help`` stays quick."""


class ReseenError(Exception):
    """Something the user can mend. The message is one line and says what to do next."""
