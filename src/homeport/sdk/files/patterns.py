"""Which files of a directory are left out: `.dockerignore`'s patterns.

`*` stays within a directory, `**` crosses them, a leading `!` takes a file back in, and a pattern that
names a directory means everything in it. A `.gitignore` is not read: what it names, a model's weights
or a generated module, is often just what an app needs.
"""

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from homeport.sdk import watched

#: Never part of an app, and nobody misses them.
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
#: Not part of an app either, unless a pattern such as `!**/.git` takes it in.
JUNK = CACHES | {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox", ".nox", ".idea", ".vscode", "site-packages",
}  # fmt: skip


class FilePatternMatcher:
    """Tells whether a path matches `.dockerignore` patterns; of several that match, the last decides."""

    def __init__(self, *patterns: str) -> None:
        self._rules = [
            (not p.startswith("!"), re.compile(_regex(p.removeprefix("!")))) for p in patterns
        ]
        #: Whether a directory that matches may hold files that do not.
        self.takes_back = any(p.startswith("!") for p in patterns)

    @staticmethod
    def from_file(path: str | Path) -> "FilePatternMatcher":
        """Read the patterns from a file, one a line; `#` begins a comment."""
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
        return FilePatternMatcher(*[line for line in lines if line and not line.startswith("#")])

    def __call__(self, path: PurePath) -> bool:
        return bool(self.says(path))

    def says(self, path: PurePath) -> bool | None:
        """Whether it matches; None where no pattern says anything of it."""
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
    """Every file of a directory that is neither junk nor ignored, in order; links are followed.

    What is left out unasked, for being junk or a link that leads nowhere or in a circle, is added to
    `left_out`. Raises `OSError` where a directory cannot be read.
    """
    walk = _Walk(directory, FilePatternMatcher(*ignore))
    walk.into(directory, frozenset())
    if left_out is not None:
        left_out += walk.left_out
    return walk.found


class _Walk:
    def __init__(self, base: Path, matcher: FilePatternMatcher) -> None:
        self.found: list[Path] = []
        self.left_out: list[Path] = []
        self._base = base
        self._matcher = matcher

    def into(self, folder: Path, above: frozenset[tuple[int, int]]) -> None:
        """`above` are the directories that this one is in."""
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
        said = self._matcher.says(path.relative_to(self._base))
        folder = entry.is_dir()
        if said and not (folder and self._matcher.takes_back):
            return
        junk = path.name in JUNK or (folder and (path / "pyvenv.cfg").exists())
        if junk and said is not False:
            if path.name not in CACHES:
                self.left_out.append(path)
        elif folder:
            self.into(path, above)
        elif said:
            pass
        elif entry.is_file():
            self.found.append(path)
        else:
            self.left_out.append(path)


def literal(path: PurePath) -> str:
    """The pattern that matches this path alone."""
    return re.sub(r"^!|[\\*?\[\]]", r"\\\g<0>", path.as_posix())


#: `**/`, `**`, `*`, `?`, a set of characters, one that is meant as it stands
_WORDS = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?[^]]+\]|\\.|.", re.DOTALL)


def _regex(pattern: str) -> str:
    cleaned = posixpath.normpath(pattern.strip()).lstrip("/")
    return "".join(_translated(word) for word in _WORDS.findall(cleaned)) + r"(?:/.*)?\Z"


def _translated(word: str) -> str:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if word in known:
        return known[word]
    if word.startswith("[") and word.endswith("]"):
        inner = word[1:-1].replace("\\", r"\\")
        return f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
    return re.escape(word[1:] if word.startswith("\\") and len(word) > 1 else word)
