"""The beginning of an assistant's turn that a request continues as text, and the check of what comes back."""

from branchwise.backends.openai.endpoint import RestartedTurnError
from branchwise.core.path import Path

_LEAST, _MOST = 16, 40
"""Characters at the start of a response that show whether it repeats the beginning of the turn."""


class ContinuedText:
    """Text of a response after the beginning of a turn.

    Servers and chat templates treat white space at the end of a turn differently: some refuse it, some remove it. So it
    is never sent, and the white space that the model writes in its place is dropped.
    """

    def __init__(self, path: Path) -> None:
        beginning = path.whole_text
        self.sent = beginning.rstrip()
        """The beginning as it is sent; empty if the turn has not begun."""
        self.drops_space = bool(self.sent) and len(self.sent) < len(beginning)
        self._at_start = self.drops_space
        begun = self.sent.lstrip() if path.parent is not None else ""  # a prefix of the user's may be ignored
        self._expected_restart = begun[:_MOST] if len(begun) >= _LEAST else ""
        self._received = ""

    def read(self, text: str) -> str:
        """Return the next text of the response as the path has it. Raises RestartedTurnError."""
        self._check(text)
        if self._at_start:
            text = text.lstrip()
            self._at_start = not text
        return text

    def _check(self, text: str) -> None:
        """Raise RestartedTurnError once the response repeats the beginning of the turn."""
        restart = self._expected_restart
        if not restart:
            return
        self._received = (self._received + text).lstrip()
        length = min(len(self._received), len(restart))
        if self._received[:length] != restart[:length]:
            self._expected_restart = ""  # it goes on in its own words
        elif length == len(restart):
            raise RestartedTurnError("begins the assistant's turn again instead of continuing it")
