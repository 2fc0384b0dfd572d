"""How what a container prints travels to its node: lines, of which some have a mark.

\\x1e<request id>\\x1f<text>   the runner: it was printed for that request (runner/lines.py)
\\x1d<lines> <bytes>          init: so much was dropped here (runner/drain.py)
\\x1d\\x1d                      a \\x1d that the container itself printed, so that it forges no mark
"""

REQUEST, REQUEST_END = "\x1e", "\x1f"
MARK = b"\x1d"


def dropped(lines: int, size: int) -> bytes:
    """The line that says how much is missing."""
    return b"%s%d %d\n" % (MARK, lines, size)


def read_dropped(line: bytes) -> tuple[int, int] | None:
    """Lines and bytes, if it is such a line (without its newline)."""
    if not line.startswith(MARK) or line.startswith(MARK * 2):
        return None
    try:
        lines, size = line[1:].split(b" ")
        return int(lines), int(size)
    except ValueError:
        return None
