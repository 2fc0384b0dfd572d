"""Reads a page of the documentation as a story: files that a reader saves, commands that they type.

A block with a title is a file of that name. A block of the language `console` has commands, each after `$ `
(`> ` goes on with a command), and what they print; `…` stands for anything, and any number for a number.
`^C` is Ctrl-C in a `homeport serve` that goes on.
"""

import re
from dataclasses import dataclass, field

FENCE = re.compile(r"^( *)```(\S*)[ ]?(.*?)$\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that a reader types, and the lines that it prints."""

    text: str
    prints: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: str
    text: str
    before: str  # the paragraph above the block

    @property
    def first_line(self) -> str:
        """Return the block's first line, by which the list of blocks that are not run names it."""
        return self.text.strip().partition("\n")[0]

    @property
    def commands(self) -> list[Command]:
        """The commands of a `console` block."""
        commands: list[Command] = []
        for line in self.text.splitlines():
            if line.startswith("$ ") or line == "^C":
                commands.append(Command(text=line.removeprefix("$ ")))
            elif line.startswith("> "):
                last = commands.pop()
                commands.append(Command(text=f"{last.text}\n{line[2:]}"))
            elif line.strip():
                commands[-1].prints.append(line.strip())
        return commands


def read(page: str) -> list[Block]:
    """The blocks of a page, in order.

    >>> [block] = read('Save it:\\n\\n```python title="a.py"\\nx = 1\\n```\\n')
    >>> block.language, block.title, block.text, block.before
    ('python', 'a.py', 'x = 1\\n', 'Save it:')
    """
    blocks = []
    for match in FENCE.finditer(page):
        indent, language, words, text = match.groups()
        title = re.search(r'title="([^"]+)"', words)
        lines = [line.removeprefix(indent) for line in text.splitlines(keepends=True)]
        above = page[: match.start()].rstrip().rpartition("\n\n")[2]
        blocks.append(
            Block(
                language=language,
                title=title[1] if title else "",
                text="".join(lines),
                before=above.strip(),
            )
        )
    return blocks


def missing(expected: list[str], printed: str) -> str:
    """The first expected line that was not printed after those before it; empty if all were.

    >>> missing(["up: port 4663 (pid …)", "bye"], "up: port 4000 (pid 12)\\nbye")
    ''
    >>> missing(["b", "a"], "a\\nb")
    'a'
    """
    lines = iter(printed.splitlines())
    for line in expected:
        pattern = _loose(line)
        if not any(pattern.search(printed_line) for printed_line in lines):
            return line
    return ""


def _loose(line: str) -> re.Pattern[str]:
    parts = []
    for part in line.split("…"):
        words = [re.escape(NUMBER.sub("0", word)) for word in part.split()]
        text = r"\s+".join(words).replace("0", r"\d[\d.,]*")
        lead = r"\s*" if part[:1].isspace() else ""
        tail = r"\s*" if part[-1:].isspace() else ""
        parts.append(f"{lead}{text}{tail}")
    return re.compile(".*".join(parts))
