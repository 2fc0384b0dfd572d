"""Makes text from containers, visitors and builds safe to show on a terminal.

Characters that a terminal would obey are shown as escapes: control characters (ECMA-48), line and paragraph
separators, and characters that change the direction of text (UAX 9, "Trojan Source"). JSON output stays
exact: there they are escaped as JSON does it.
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
    *range(0xE0000, 0xE0080),  # tags, which are invisible
)
_ESCAPED = {code: ascii(chr(code))[1:-1] for code in _OBEYED}
_JSON = {code: json.dumps(chr(code))[1:-1] for code in _OBEYED if code >= 0x7F}
_LINE = {**_ESCAPED, ord("\t"): "\t"}
_TEXT = {**_LINE, ord("\n"): "\n"}


def line(text: str) -> str:
    """Return one line with its control characters as escapes.

    >>> print(line("a\\x1b[31mb\\nc"))
    a\\x1b[31mb\\nc
    """
    return text.translate(_LINE)


def text(text: str) -> str:
    """Return several lines in the same way; only line feeds stay."""
    return text.replace("\r\n", "\n").translate(_TEXT)


def encoded(value: object) -> str:
    """Return JSON in which all such characters are escaped; a program reads the exact value."""
    return json.dumps(value, indent=2, ensure_ascii=False).translate(_JSON)


def pieces(text: str) -> list[str]:
    """Return the states that a progress bar has drawn over each other, as separate lines.

    >>> pieces("10%\\r20%\\r\\x1b[K30%")
    ['10%', '20%', '\\\\x1b[K30%']
    """
    return [line(piece) for piece in text.split("\r") if piece] or [""]
