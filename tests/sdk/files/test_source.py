"""The files of a local module, and their places in the container."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

import homeport as modal
from homeport.contract.errors import ScriptError
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


def test_a_file_without_an_end_is_refused(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")

    with pytest.raises(OSError, match="it is not a regular file"):
        source.digest(pipe)


@pytest.mark.parametrize(
    "step",
    [
        "add_local_file('odd\\udcff', '/x/odd\\udcff', copy=True)",
        "add_local_dir('.', '/x', copy=True)",
        "dockerfile_commands('COPY . /x')",
    ],
)
def test_a_file_that_no_manifest_can_name_is_refused(tmp_path, monkeypatch, step):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd\udcff").touch()

    with pytest.raises(ScriptError, match="is not UTF-8 text"):
        eval(f"modal.Image.from_registry('debian:12').{step}")


def test_the_files_of_a_module_go_into_a_layer_by_their_hashes(modules):
    (modules / "zz_one.py").write_text("x = 1")
    image = modal.Image.from_registry("debian:12").add_local_python_source("zz_one", copy=True)
    tree = source.Tree(modules)
    tree.add_image(image.spec)
    files, paths = tree.build_files()

    assert [hashlib.sha256(b"x = 1").hexdigest()] == [file.sha256 for file in files]
    assert [str(modules / "zz_one.py")] == list(paths.values())


@pytest.mark.parametrize(
    ("ignore", "files"),
    [
        (None, {"__init__.py", "sub/__init__.py", "sub/leaf.py"}),
        ([], {"__init__.py", "data.txt", "sub/__init__.py", "sub/leaf.py"}),
        (["sub", "*.txt"], {"__init__.py"}),
        (lambda path: path.name == "leaf.py", {"__init__.py", "data.txt", "sub/__init__.py"}),
        (~modal.FilePatternMatcher("**/*.txt"), {"data.txt"}),
    ],
)
@pytest.mark.parametrize("copy", [False, True])
def test_files_of_a_package_are_left_out_as_its_step_says(modules, copy, ignore, files):
    image = modal.Image.from_registry("debian:12").add_local_python_source(
        "zz_one", "zz_pack", copy=copy, ignore=ignore
    )
    tree = source.Tree(modules)
    tree.add_image(image.spec)
    places = {file.path for file in tree.files()[0]}
    for step in image.spec.steps:
        places |= {*step.args.get("files", ())}

    assert {"zz_one.py", *(f"zz_pack/{name}" for name in files)} == places
