"""The Python that homeport lays into a root file system."""

import json

import pytest

from homeport.contract.errors import ImageError
from homeport.node.images.owned import hands
from homeport.node.images.rooted import python


async def test_a_python_is_laid_in_without_the_mark_that_stops_pip(tmp_path):
    library = tmp_path / "python" / "lib" / "python3.12"
    library.mkdir(parents=True)
    (library / python.MARKER).write_text("[externally-managed]\n")
    (library / "os.py").write_text("")
    hands.mkdir(tmp_path / "files")
    order = {"do": "tree", "source": str(tmp_path / "python"), "place": python.PLACE}
    await hands.counts({**order, "without": python.MARKER, "into": str(tmp_path / "files")})

    laid = tmp_path / "files" / python.PLACE / "lib" / "python3.12"
    assert ["os.py"] == [path.name for path in laid.iterdir()]


@pytest.mark.parametrize(
    ("version", "libc", "why"),
    [
        ("3.12.1", "glibc 2.36", None),
        ("3.13.0rc1", "glibc 2.36.9000", None),
        ("3.1.0", "glibc 2.36", "oldest that the runner runs on"),
        ("3.12.1", "glibc 2.9", "oldest that the runner runs on"),
        ("3.12.1", "musl 1.2", "not glibc"),
        ("three.12", "glibc 2.36", "says that a version is 'three.12'"),
        ("3", "glibc 2.36", "says that a version is '3'"),
        ("3.12.1", "glibc", "says that a version is ''"),
        ("9" * 5000 + ".1", "glibc 2.36", "says that a version is '999"),
    ],
)
def test_the_words_of_an_images_python_are_judged_whatever_they_are(version, libc, why):
    """The image writes them, so they are data."""
    lines = ["loading", json.dumps({"path": "/usr/bin/python", "version": version, "libc": libc})]
    if why is None:
        assert version == python.judged(0, lines, "script.py:3").version
        return
    with pytest.raises(ImageError, match=why):
        python.judged(0, lines, "script.py:3")
