"""The format of a container's output on its way to the node: lines, some of them marked.

\\x1e<request id>\\x1f<text>   from the runner: a line that was printed for this request (runner/lines.py)
\\x1d<lines> <bytes>          from init: so many lines were dropped here (runner/drain.py)
\\x1d\\x1d                      a \\x1d that the container itself printed, so that it cannot forge a mark
"""

REQUEST, REQUEST_END = "\x1e", "\x1f"
MARK = b"\x1d"
#: The first character of a build's line that the next line replaces: `12 MiB fetched`.
PASSING = "\r"
#: The first character of a line that names the step of an image that starts now. Lines of programs never start with it.
STEP = "\x1c"


def step(number: int, count: int, name: str, image: str = "") -> str:
    """Return the line that reports that an image's step starts; with 0, that all steps are done.

    `image` is the function whose image it is.
    """
    return f"{STEP}{number} {count} {name or '-'} {image}"


def read_step(line: str) -> "tuple[int, int, str, str] | None":
    """Return the arguments of `step` from its line; None if it is another line.

    >>> read_step(step(2, 3, "uv_pip_install", "price")), read_step("uv_pip_install: + six")
    ((2, 3, 'uv_pip_install', 'price'), None)
    """
    words = line.removeprefix(STEP).split(" ", 3)
    if not line.startswith(STEP) or len(words) != 4:
        return None
    if not all(number.isdecimal() for number in words[:2]):
        return None
    return int(words[0]), int(words[1]), words[2], words[3]


def dropped(lines: int, size: int) -> bytes:
    """Return the line that reports how many lines and bytes were dropped."""
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
