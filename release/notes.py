"""Prints the newest entry of CHANGELOG.md, or that of a version: `python release/notes.py [0.2.0]`."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def notes(changelog: str, version: str = "") -> str:
    """The text under `## <version> - <date>`, of the newest one if none is named.

    *Unreleased* is no version. Raises `LookupError` where there is no such entry.

    >>> notes("## Unreleased\\n\\n## 0.2.0 - 2026-12-01\\n\\n- New.\\n\\n## 0.1.0 - 2026-11-01\\n")
    '- New.'
    """
    named = re.escape(version) if version else r"\d[^\s\]]*"
    found = re.search(
        rf"^## \[?{named}\]?(?: [^\n]*)?$\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise LookupError(f"CHANGELOG.md has no entry for {version or 'a version'}")
    return found[1].strip()


if __name__ == "__main__":
    try:
        print(notes(CHANGELOG.read_text(), *sys.argv[1:2]))  # noqa: T201 - its output is its purpose
    except LookupError as error:
        sys.exit(f"error: {error.args[0]}")
