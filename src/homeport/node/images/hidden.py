"""Hides a build's secrets in what its programs print, line by line.

Hidden are each value as it is, each line of a value that has several, and the forms in which programs
usually print a value: as JSON or Python would write it, quoted for a shell or a URL, escaped for HTML,
and in base64. A value that a program has wrapped is hidden too: where a line ends with the beginning of
a value, what follows of it on the next lines is hidden. What somebody encrypts or spells backwards is not.
"""

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Iterator

HIDDEN = "***"
SHORTEST = 4  # characters; a shorter one would be found in every other word
SHORTEST_BEGINNING = 8  # of a value that goes on in the next line


class Hider:
    """The lines of one program's output, in order."""

    def __init__(self, values: Iterable[str]) -> None:
        values = [value for value in values if len(value.strip()) >= SHORTEST]
        forms = {form for value in values for form in _forms(value) if len(form) >= SHORTEST}
        # The longest first: a part of a value that is replaced would leave the rest.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        # Of a value with several lines even a short one is hidden, if it stands alone.
        self._alone = {
            line.strip() for value in values for line in _lines(value) if line != value.strip()
        }
        self._wrapped = [form for form in ordered if len(form) > SHORTEST_BEGINNING]
        self._rest: list[str] = []  # what may follow of values that the last line began

    def hide(self, line: str) -> str:
        """The line as it may be shown."""
        if self._pattern is None:
            return line
        if line.strip() in self._alone:
            return HIDDEN
        line = self._without_rest(line)
        line = self._pattern.sub(HIDDEN, line)
        return self._without_beginning(line)

    def hide_all(self, lines: Iterable[str]) -> list[str]:
        """The lines of another output."""
        self._rest = []
        return [self.hide(line) for line in lines]

    def _without_rest(self, line: str) -> str:
        text = line.strip()
        rests, self._rest = self._rest, []
        for rest in rests:
            if text and rest.startswith(text):
                if len(text) < len(rest):
                    self._rest.append(rest[len(text) :].lstrip())
                line = HIDDEN
            elif text.startswith(rest):
                line = line.replace(rest, HIDDEN, 1)
        return line

    def _without_beginning(self, line: str) -> str:
        text, begun = line.rstrip(), 0
        for form in self._wrapped:
            most = min(len(form) - 1, len(text))
            for length in range(most, SHORTEST_BEGINNING - 1, -1):
                if text.endswith(form[:length]):
                    self._rest.append(form[length:].lstrip())
                    begun = max(begun, length)
                    break
        return text[:-begun] + HIDDEN if begun else line


def _forms(value: str) -> Iterator[str]:
    """What programs may print for a value."""
    lines = _lines(value)
    # Joined too, as a shell does with a variable that nobody has quoted.
    for text in {value, value.strip(), "".join(lines), " ".join(lines), *lines}:
        yield text
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        yield urllib.parse.quote(text)
        yield urllib.parse.quote(text, safe="")
        yield urllib.parse.quote_plus(text)
        yield html.escape(text)
        yield shlex.quote(text)[1:-1] if shlex.quote(text) != text else text
        yield text.replace("'", "'\\''")  # as a shell's `set -x` does
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(text.encode(errors="surrogateescape")).decode().rstrip("=")


def _lines(value: str) -> list[str]:
    return [line.strip() for line in value.splitlines() if line.strip()]
