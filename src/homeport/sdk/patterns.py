"""Which files of a directory are left out: `.dockerignore`'s patterns.

`*` stays within a directory, `**` crosses them, a leading `!` takes a file back in, and a pattern that
names a directory means everything in it.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

#: Never part of an app.
JUNK = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache",
        ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".idea", ".vscode", ".DS_Store", "site-packages",
    }
)  # fmt: skip


class FilePatternMatcher:
    """Whether a path matches any of the patterns; the last one that says something decides."""

    def __init__(self, *patterns: str) -> None:
        self._rules = [
            (not p.startswith("!"), re.compile(_regex(p.removeprefix("!")))) for p in patterns
        ]

    @staticmethod
    def from_file(path: str | Path) -> "FilePatternMatcher":
        """The patterns of a file, one a line; `#` begins a comment."""
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
        return FilePatternMatcher(*[line for line in lines if line and not line.startswith("#")])

    def __call__(self, path: PurePath) -> bool:
        matched = False
        for means_match, rule in self._rules:
            if rule.match(path.as_posix()):
                matched = means_match
        return matched

    def __invert__(self) -> "_Not":
        return _Not(self)


class _Not:
    def __init__(self, matcher: FilePatternMatcher) -> None:
        self._matcher = matcher

    def __call__(self, path: PurePath) -> bool:
        return not self._matcher(path)


def files_below(directory: Path, ignore: Sequence[str] = ()) -> list[Path]:
    """Every file of a directory that is neither junk nor ignored, in order."""
    matcher = FilePatternMatcher(*ignore)
    found: list[Path] = []
    for path in sorted(directory.iterdir()):
        if path.name in JUNK:
            continue
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():
                found += files_below(path)
        elif path.is_file():
            found.append(path)
    return [path for path in found if not matcher(path.relative_to(directory))] if ignore else found


def _regex(pattern: str) -> str:
    parts = []
    for part in pattern.strip("/").split("/"):
        if part == "**":
            parts.append("(?:[^/]+/)*")
            continue
        text = ""
        for character in part:
            text += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        parts.append(text + "/")
    return "".join(parts).removesuffix("/") + "(?:/.*)?$"
