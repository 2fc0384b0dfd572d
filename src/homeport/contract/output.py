"""The format of a container's output on its way to the node: lines, some of them marked.

\\x1e<request id>\\x1f<text>   from the runner: a line that was printed for this request (runner/lines.py)
\\x1d<lines> <bytes>          from init: so many lines were dropped here (runner/drain.py)
\\x1d\\x1d                      a \\x1d that the container itself printed, so that it cannot forge a mark
"""

REQUEST, REQUEST_END = "\x1e", "\x1f"
MARK = b"\x1d"
#: How a line of a build begins that stands only until the next one: `12 MiB fetched`.
PASSING = "\r"


def dropped(lines: int, size: int) -> bytes:
    """Return the line that says how much was dropped."""
    return b"%s%d %d\n" % (MARK, lines, size)


def read_dropped(line: bytes) -> tuple[int, int] | None:
    """Return the dropped lines and bytes; None if it is another line (given without its newline)."""
    if not line.startswith(MARK) or line.startswith(MARK * 2):
        return None
    try:
        lines, size = line[1:].split(b" ")
        return int(lines), int(size)
    except ValueError:
        return None
