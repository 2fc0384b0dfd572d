"""Hide secrets in the output of a build's programs, or in a captured request, line by line.

Its callers are `node/images/builder` and `control/deploys/redacting`. Each line is one that a newline (`\\n`) has ended, and nothing else.

These are replaced by `***`:
- a value, and each line of a value that has several lines
- the usual ways to print a value: as JSON or Python writes it, quoted for a shell or a URL, escaped for
  HTML, in base64
- a value that the program has wrapped: if a line ends with the first characters of a value, the rest of
  the value on the next lines is hidden
- a value with several short lines: if a line ends with its first line, its last line is hidden too

A value that a program encrypts or reverses is not hidden.
"""

import base64
import json
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Iterator

HIDDEN = "***"
SHORTEST = 4  # characters; shorter values occur by chance in ordinary words
SHORTEST_BEGINNING = 8  # characters at a line's end that count as the beginning of a wrapped value


class Hider:
    """Hides secrets in one program's output; call `hide` with its lines in order."""

    def __init__(self, values: Iterable[str]) -> None:
        values = [value for value in values if len(value.strip()) >= SHORTEST]
        forms = {form for value in values for form in _forms(value) if len(form) >= SHORTEST}
        # Replace the longest form first: a shorter one inside it would leave the rest visible.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        # A line of a value is hidden at any length if nothing else is on the printed line.
        self._alone = {line for value in values for line in _lines(value) if line != value.strip()}
        self._wrapped = [form for form in ordered if len(form) > SHORTEST_BEGINNING]
        self._rest: list[str] = []  # the rests of wrapped values that the last line began
        self._several = {lines for value in values if len(lines := _printed_lines(value)) > 1}
        self._next: set[tuple[str, ...]] = set()  # the lines that may follow the last printed line

    def hide(self, line: str) -> str:
        """Return the line with its secrets replaced by `***`."""
        if self._pattern is None:
            return line
        shown = self._without_last_line(line)
        if line.strip() in self._alone:
            return HIDDEN
        shown = self._without_rest(shown)
        shown = self._pattern.sub(HIDDEN, shown)
        return self._without_beginning(shown)

    def hide_all(self, lines: Iterable[str]) -> list[str]:
        """Return the lines of another output with their secrets replaced by `***`."""
        self._rest, self._next = [], set()
        return [self.hide(line) for line in lines]

    def _without_last_line(self, line: str) -> str:
        """Hide the last line of a value whose earlier lines were just printed."""
        text = line.strip()
        if not text:
            return line
        following, self._next = self._next, set()
        last = ""
        for lines in following:
            if len(lines) > 1 and text == lines[0]:
                self._next.add(lines[1:])
            elif len(lines) == 1 and text.startswith(lines[0]):
                last = max(last, lines[0], key=len)
        self._next |= {lines[1:] for lines in self._several if text.endswith(lines[0])}
        return line.replace(last, HIDDEN, 1) if last else line

    def _without_rest(self, line: str) -> str:
        text = line.strip()
        rests, self._rest = self._rest, []
        for remaining in rests:
            if text and remaining.startswith(text):
                if len(text) < len(remaining):
                    self._rest.append(remaining[len(text) :].lstrip())
                line = HIDDEN
            elif text.startswith(remaining):
                line = line.replace(remaining, HIDDEN, 1)
        return line

    def _without_beginning(self, line: str) -> str:
        text, hidden_length = line.rstrip(), 0
        for form in self._wrapped:
            most = min(len(form) - 1, len(text))
            for length in range(most, SHORTEST_BEGINNING - 1, -1):
                if text.endswith(form[:length]):
                    self._rest.append(form[length:].lstrip())
                    hidden_length = max(hidden_length, length)
                    break
        return text[:-hidden_length] + HIDDEN if hidden_length else line


def _forms(value: str) -> Iterator[str]:
    """The texts that programs may print for a value."""
    import html  # its entities take 0.3 MiB

    lines = _printed_lines(value)
    # A shell joins the lines of a variable that is not quoted.
    for text in {value, value.strip(), "".join(lines), " ".join(lines), *_lines(value)}:
        yield text
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        yield urllib.parse.quote(text, errors="surrogateescape")
        yield urllib.parse.quote(text, safe="", errors="surrogateescape")
        yield urllib.parse.quote_plus(text, errors="surrogateescape")
        yield html.escape(text)
        yield shlex.quote(text)[1:-1] if shlex.quote(text) != text else text
        yield text.replace("'", "'\\''")  # as a shell's `set -x` does
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(text.encode(errors="surrogateescape")).decode().rstrip("=")


def _printed_lines(value: str) -> tuple[str, ...]:
    """The value's lines as the output has them: only a newline ends one."""
    return tuple(line.strip() for line in value.split("\n") if line.strip())


def _lines(value: str) -> set[str]:
    """The value's lines, also as a program prints them that ends lines at `\\r` or at other characters."""
    other_lines = {line.strip() for line in value.splitlines() if line.strip()}
    return {*_printed_lines(value), *other_lines}
