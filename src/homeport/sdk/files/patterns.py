"""Matches paths against `.dockerignore` patterns, to leave files out of an app.

`*` matches within a directory, `**` across directories, a leading `!` includes a file again, and a pattern
that matches a directory matches everything in it. A `.gitignore` is not read: apps often need the files
that it names, such as a model's weights or a generated module.
"""

import errno
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from homeport.sdk import watched
from homeport.sdk.exception import InvalidError

#: Left out of every app, without a notice.
CACHES = frozenset(
    {
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".ipynb_checkpoints",
        ".DS_Store",
    }
)
#: Left out too, unless a pattern such as `!**/.git` includes it.
JUNK = CACHES | {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox", ".nox", ".idea", ".vscode", "site-packages",
}  # fmt: skip


class FilePatternMatcher:
    """Tells whether a path matches `.dockerignore` patterns; the last matching pattern decides."""

    def __init__(self, *patterns: str) -> None:
        self._file: Path | None = None  # whose patterns have not been read yet
        self._take(patterns)

    def _take(self, patterns: Sequence[str]) -> None:
        self._rules = [(not p.startswith("!"), _rule(p.removeprefix("!"))) for p in patterns]
        #: True if a directory that matches may have files that do not.
        self.takes_back = any(p.startswith("!") for p in patterns)

    @staticmethod
    def from_file(path: str | Path) -> "FilePatternMatcher":
        """Read the patterns from a file, one a line, when they are first needed; `#` begins a comment.

        A container imports the script too, and does not have the file.
        """
        matcher = FilePatternMatcher()
        matcher._file = Path(path).expanduser()
        return matcher

    def __call__(self, path: PurePath) -> bool:
        return bool(self.says(path))

    def says(self, path: PurePath) -> bool | None:
        """Return whether the path matches; None if no pattern matches it."""
        if self._file is not None:
            watched.add(self._file)
            lines = [line.strip() for line in self._file.read_text(encoding="utf-8").splitlines()]
            self._take([line for line in lines if line and not line.startswith("#")])
            self._file = None
        text = path.as_posix()
        return next((means for means, rule in reversed(self._rules) if rule.match(text)), None)

    def __invert__(self) -> "_Not":
        return _Not(self)


class _Not:
    def __init__(self, matcher: FilePatternMatcher) -> None:
        self._matcher = matcher

    def __call__(self, path: PurePath) -> bool:
        return not self._matcher(path)


def files_below(
    directory: Path, ignore: Sequence[str] = (), left_out: list[Path] | None = None
) -> list[Path]:
    """Return the files of a directory that are neither junk nor ignored, in order; follow links.

    Adds junk, broken links and circular links to `left_out`, because no pattern has excluded them. Raises
    `OSError` if a directory cannot be read.
    """
    walk = _Walk(directory, FilePatternMatcher(*ignore))
    walk.into(directory, frozenset())
    if left_out is not None:
        left_out += walk.left_out
    return walk.paths


class _Walk:
    def __init__(self, base: Path, matcher: FilePatternMatcher) -> None:
        self.paths: list[Path] = []
        self.left_out: list[Path] = []
        self._base = base
        self._matcher = matcher

    def into(self, folder: Path, above: frozenset[tuple[int, int]]) -> None:
        """Walk one directory; `above` are the directories that contain it, to find circular links."""
        status = folder.stat()
        identity = status.st_dev, status.st_ino
        if identity in above:
            self.left_out.append(folder)
            return
        watched.add(folder)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                self._meet(folder / entry.name, entry, above | {identity})

    def _meet(
        self, path: Path, entry: "os.DirEntry[str]", above: frozenset[tuple[int, int]]
    ) -> None:
        matches = self._matcher.says(path.relative_to(self._base))
        try:
            folder = entry.is_dir()
        except OSError as error:
            if error.errno != errno.ELOOP:  # a link that leads to itself
                raise
            folder = False
        if matches and not (folder and self._matcher.takes_back):
            return
        junk = path.name in JUNK or (folder and (path / "pyvenv.cfg").exists())
        if junk and matches is not False:
            if path.name not in CACHES:
                self.left_out.append(path)
        elif folder:
            self.into(path, above)
        elif matches:
            pass
        elif path.is_file():
            self.paths.append(path)
        else:
            self.left_out.append(path)


def literal(path: PurePath) -> str:
    """Return the pattern that matches only this path."""
    return re.sub(r"^!|[\\*?\[\]]", r"\\\g<0>", path.as_posix())


#: `**/`, `**`, `*`, `?`, a set of characters, an escaped character, any other character
_WORDS = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?(?:\\.|[^]\\])+\]|\\.|.", re.DOTALL)
#: the members of a set: a character, or the first and the last one of a range
_MEMBERS = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)


def _rule(pattern: str) -> "re.Pattern[str]":
    try:
        return re.compile(_regex(pattern))
    except (re.error, OverflowError) as error:  # a set of characters without an end, such as `[!]`
        raise InvalidError(f"the pattern {pattern!r} cannot be read: {error}") from None


def _regex(pattern: str) -> str:
    cleaned = posixpath.normpath(pattern.strip()).lstrip("/")
    return "".join(_translated(word) for word in _WORDS.findall(cleaned)) + r"(?:/.*)?\Z"


def _translated(word: str) -> str:
    wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if word in wildcards:
        return wildcards[word]
    if word.startswith("[") and word.endswith("]"):
        excluded = word[1] in "!^"
        members = [
            "-".join(re.escape(end) for end in ends if end)
            for ends in _MEMBERS.findall(word[1 + excluded : -1])
        ]
        return f"[{'^' if excluded else ''}{''.join(members)}]"
    return re.escape(word[1:] if word.startswith("\\") and len(word) > 1 else word)
