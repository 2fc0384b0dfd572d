"""Which files of a directory are left out."""

import contextlib
import os
import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.sdk.exception import InvalidError
from homeport.sdk.files import patterns
from homeport.sdk.files.patterns import FilePatternMatcher


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("data", "data/x", True),
        ("data/", "data/x", True),
        ("./data", "data/x", True),
        ("/data", "data/x", True),
        ("data/**", "data/a/b.txt", True),
        ("data/**", "data/b.txt", True),
        ("data*/**", "data1/x", True),
        ("**", "a/b.txt", True),
        ("*", "a/b", True),
        ("*.txt", "a.txt", True),
        ("*.txt", "a/b.txt", False),
        ("**/*.txt", "a/b.txt", True),
        ("**/*.txt", "b.txt", True),
        ("**.txt", "a/b.txt", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "ab", False),
        ("[ab].txt", "a.txt", True),
        ("[!a].txt", "a.txt", False),
        ("[^a-c].txt", "d.txt", True),
        ("[[]", "[", True),
        ("[a&&b]", "&", True),
        ("[a||b]", "a", True),
        ("[a~~b]", "b", True),
        ("[+--]", ",", True),
        ("[+--]", ".", False),
        ("[a-]", "-", True),
        (r"[\]a]", "]", True),
        (r"[a\-c]", "b", False),
        (r"[\a]", "\\", False),
        (r"\*.txt", "*.txt", True),
        (r"\*.txt", "a.txt", False),
        ("a.b", "axb", False),
        ("[", "[", True),
    ],
)
def test_a_pattern_means_what_it_means_in_a_dockerignore(pattern, path, matches):
    assert matches == FilePatternMatcher(pattern)(PurePosixPath(path))


def test_the_last_pattern_that_says_something_decides():
    matcher = FilePatternMatcher("**", "!**/*.py", "secret.py")

    assert [False, True, True] == [
        matcher(PurePosixPath(p)) for p in ("a/b.py", "a/b.txt", "secret.py")
    ]
    assert (~matcher)(PurePosixPath("a/b.py"))


def test_patterns_of_a_file_are_read_when_they_are_needed(tmp_path):
    matcher = FilePatternMatcher.from_file(tmp_path / "ignored")
    (tmp_path / "ignored").write_text("# mine\n\n*.txt\n!b.txt\n", encoding="utf-8")

    assert [True, False, False] == [matcher(PurePosixPath(p)) for p in ("a.txt", "b.txt", "a.py")]


def below(base: Path, *ignore: str) -> tuple[list[str], list[str]]:
    left_out: list[Path] = []
    found = patterns.files_below(base, ignore, left_out)
    return [str(p.relative_to(base)) for p in found], [str(p.relative_to(base)) for p in left_out]


@pytest.fixture
def tree(tmp_path):
    for name in ("a.txt", "b/c.txt", "b/.git/HEAD", "b/env/pyvenv.cfg", "b/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_junk_is_left_out_and_told_but_for_caches_and_taken_in_where_it_is_asked_for(tree):
    assert (["a.txt", "b/c.txt"], ["b/.git", "b/env"]) == below(tree)
    assert (["a.txt"], []) == below(tree, "b")
    assert (["a.txt", "b/.git/HEAD", "b/c.txt"], ["b/env"]) == below(tree, "!**/.git")
    assert (["b/c.txt"], ["b/.git", "b/env"]) == below(tree, "**", "!b/c.txt")


def test_links_that_lead_in_circles_or_nowhere_are_left_out(tree):
    (tree / "b" / "up").symlink_to("..")
    (tree / "b" / "self").symlink_to(tree / "b")
    (tree / "nowhere").symlink_to("gone")
    (tree / "itself").symlink_to("itself")
    (tree / "again.txt").symlink_to("a.txt")
    os.mkfifo(tree / "pipe")

    assert (
        ["a.txt", "again.txt", "b/c.txt"],
        ["b/.git", "b/env", "b/self", "b/up", "itself", "nowhere", "pipe"],
    ) == below(tree)


def test_an_ignored_directory_is_not_even_looked_at(tree, monkeypatch):
    looked_at = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked_at.append(Path(path)) or scandir(path))
    below(tree, "b")

    assert [tree] == looked_at


@pytest.mark.parametrize("pattern", ["[!]", "a/[^]", "[z-a].txt", "[a--b]"])
def test_a_pattern_whose_set_of_characters_has_no_meaning_is_refused_by_name(pattern):
    with pytest.raises(InvalidError, match=re.escape(repr(pattern))):
        FilePatternMatcher(pattern)


@given(st.text(st.sampled_from("[]!^-\\*?/.ab(){}|+$&~"), max_size=12))
def test_every_text_is_a_pattern_or_refused(text):
    with contextlib.suppress(InvalidError):
        FilePatternMatcher(text).says(PurePosixPath("a/b"))
