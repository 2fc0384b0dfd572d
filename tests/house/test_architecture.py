"""The pages that lead through the house name files that are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs/contributing").glob("*.md")]  # fmt: skip
NAMED = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+(?:/|\.[a-z_]+)?)`")


def named(page: Path) -> Iterator[str]:
    """Yield each path on a page, as it is written: below the root, or below src/homeport, perhaps with a function's name."""
    yield from NAMED.findall(page.read_text())


def is_there(path: str) -> bool:
    module = path.partition(".")[0]
    tops = (ROOT, ROOT / "src/homeport")
    return any((top / end).exists() for top in tops for end in (path, f"{module}.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_path_on_a_page_for_contributors_exists(page):
    assert [] == [path for path in named(page) if not is_there(path)]


def test_the_picture_names_every_room():
    source, text = ROOT / "src/homeport", (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {path.parent.relative_to(source) for path in source.rglob("*/__init__.py")}
    said = set(re.findall(r"[a-z_/]+", text))
    silent = {
        room
        for room in rooms
        if not {str(room), f"{room.name}/"} & said
        and not any(path.startswith(f"{room}/") for path in said)
    }

    assert set() == silent
