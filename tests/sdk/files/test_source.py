"""The files of a local module, and their places in the container."""

import hashlib
import sys
from pathlib import Path

import pytest

from homeport.contract.image import Step
from homeport.sdk.exception import Error
from homeport.sdk.files import source

STEP = Step(name="add_local_python_source", where="app.py:3")


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A folder on the path, with a module, a package and a package without `__init__.py`."""
    for name in (
        "zz_one.py",
        "zz_pack/__init__.py",
        "zz_pack/sub/__init__.py",
        "zz_pack/sub/leaf.py",
        "zz_pack/data.txt",
        "zz_open/part.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("zz_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("zz_one", {"zz_one.py"}),
        ("zz_pack", {"zz_pack/__init__.py", "zz_pack/sub/__init__.py", "zz_pack/sub/leaf.py"}),
        ("zz_pack.sub", {"zz_pack/sub/__init__.py", "zz_pack/sub/leaf.py"}),
        ("zz_pack.sub.leaf", {"zz_pack/sub/leaf.py"}),
        ("zz_open", {"zz_open/part.py"}),
    ],
)
def test_a_module_is_its_python_files_below_the_folder_that_it_is_imported_from(
    modules, name, files
):
    found = source.module_files(name, STEP)

    assert {modules} == {top for _, top in found}
    assert files == {path.relative_to(top).as_posix() for path, top in found}


def test_a_module_that_is_not_there_is_an_error_at_its_step(modules):
    with pytest.raises(Exception, match="there is no local module `zz_none`") as caught:
        source.module_files("zz_none", STEP)

    assert "app.py:3" == caught.value.where
    assert not isinstance(caught.value, Error)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/root/a/b.py", "a/b.py"),
        ("/root", "."),
        ("/rooted/a", "/rooted/a"),
        ("/etc/x", "/etc/x"),
    ],
)
def test_a_path_below_root_has_its_place_in_the_tree(path, place):
    assert place == source.place_of(path)


@pytest.mark.parametrize("size", [0, 1, source.CHUNK_BYTES, source.CHUNK_BYTES + 1])
def test_a_digest_is_of_the_whole_file(tmp_path, size):
    (file := Path(tmp_path / "file")).write_bytes(b"x" * size)

    assert hashlib.sha256(b"x" * size).hexdigest() == source.digest(file)
