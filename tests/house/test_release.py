"""A release can be made: the version, the wheel's contents, the text of the changelog."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from release import notes

ROOT = Path(__file__).parents[2]


def git(*words: str, cwd: Path) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    return subprocess.run(
        ["git", *who, *words], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def source(tmp_path) -> Path:
    """The repository's files in a directory that git does not know."""
    copy = tmp_path / "source"
    for name in git("ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def build(source: Path) -> Path:
    """The wheel that `uv build` makes."""
    out = source.parent / "dist"
    words = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(out), str(source)]
    subprocess.run(words, check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_a_tag_is_the_version_of_the_wheel(source):
    git("init", "--quiet", cwd=source)
    git("add", ".", cwd=source)
    git("commit", "--quiet", "--message", "All", cwd=source)
    git("tag", "--annotate", "v7.8.9", "--message", "7.8.9", cwd=source)
    wheel = build(source)
    names = zipfile.ZipFile(wheel).namelist()

    assert wheel.name.startswith("homeport-7.8.9-")
    assert b"7.8.9" in zipfile.ZipFile(wheel).read("homeport/_version.py")
    for needed in ("homeport/ingress/park.lua", "homeport/py.typed", "homeport/__main__.py"):
        assert needed in names
    assert [] == [n for n in names if not n.startswith(("homeport/", "homeport-"))]


def test_a_tree_that_git_does_not_know_builds_too(source):
    assert "0.1.0.dev0" in build(source).name


def test_the_newest_entry_of_the_changelog_is_the_text_of_the_release():
    changelog = (
        "# Changelog\n\n## Unreleased\n\n- Soon.\n\n"
        "## 0.2.0 - 2026-12-01\n\n### Added\n\n- New.\n\n## [0.1.0] - 2026-11-01\n\n- Old.\n"
    )

    assert "### Added\n\n- New." == notes.notes(changelog)
    assert "- Old." == notes.notes(changelog, "0.1.0")
    with pytest.raises(LookupError):
        notes.notes("## Unreleased\n\n- Soon.\n")


def test_the_changelog_has_a_place_for_the_next_entry():
    assert re.search(r"^## Unreleased$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
