"""Writes the pages of the reference below a directory: `python -m docs.generate DIRECTORY`."""

import sys
from pathlib import Path

from docs.generate import PAGES


def main(root: Path) -> None:
    """Write every page; its folder is made if it is missing."""
    for name, page in PAGES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
