"""Each migration has a number of its own, and follows the one before it."""

import re
from pathlib import Path

from homeport.state import tables

VERSIONS = Path(tables.__file__).parent / "migrations" / "versions"


def test_migrations_are_one_line():
    numbers = []
    for path in sorted(VERSIONS.glob("[0-9]*.py")):
        found = dict(re.findall(r'^(\w+) = "(\d{4})"$', path.read_text(), re.MULTILINE))
        assert path.name[:4] == found["revision"], path
        assert f"{int(found['revision']) - 1:04}" == found.get("down_revision", "0000"), path
        numbers.append(found["revision"])

    assert sorted({*numbers}) == numbers
    assert tables.SCHEMA == numbers[-1]
