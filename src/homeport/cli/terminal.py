"""Text of others on a terminal: what a container printed, a visitor asked for or a build said.

Whatever would be obeyed and not shown is shown as an escape: control characters (ECMA-48), line and
paragraph separators, and what changes the direction of text (UAX 9, "Trojan Source"). JSON output
stays exact: the same are escaped as JSON does it.
"""

import json

_OBEYED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
    *range(0xE0000, 0xE0080),  # tags, which nobody sees
)
_ESCAPED = {code: ascii(chr(code))[1:-1] for code in _OBEYED}
_JSON = {code: json.dumps(chr(code))[1:-1] for code in _OBEYED if code >= 0x7F}
_LINE = {**_ESCAPED, ord("\t"): "\t"}
_TEXT = {**_LINE, ord("\n"): "\n"}


def line(text: str) -> str:
    """One line, as it can be shown.

    >>> print(line("a\\x1b[31mb\\nc"))
    a\\x1b[31mb\\nc
    """
    return text.translate(_LINE)


def text(text: str) -> str:
    """The same of several lines: only line feeds part them."""
    return text.replace("\r\n", "\n").translate(_TEXT)


def encoded(value: object) -> str:
    """JSON of which a terminal obeys nothing, and of which a program reads what it was."""
    return json.dumps(value, indent=2, ensure_ascii=False).translate(_JSON)


def pieces(text: str) -> list[str]:
    """What a progress bar has drawn one over the other, one after the other.

    >>> pieces("10%\\r20%\\r\\x1b[K30%")
    ['10%', '20%', '\\\\x1b[K30%']
    """
    return [line(piece) for piece in text.split("\r") if piece] or [""]
