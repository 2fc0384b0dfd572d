"""What is compiled for containers that cannot keep it: after they serve, and without running any of it."""

import contextlib
import importlib.util
import marshal
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from homeport.node.images import compiled, store
from homeport.node.images.compiled import Compiler
from homeport.node.images.made import Made
from homeport.node.images.store import Store
from homeport.sdk.preload.record import names, stamp
from tests.waiting import until


@pytest.fixture
async def compiler(tmp_path):
    compiler = Compiler(Store(tmp_path))
    yield compiler
    await compiler.close()


@pytest.fixture
async def made(tmp_path) -> Made:
    """An environment with one package, which would tell if it ran."""
    directory = tmp_path / "key"
    packages = directory / "venv" / "lib" / "python3" / "site-packages"
    (packages / "pack").mkdir(parents=True)
    (packages / "pack" / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (packages / "startup.pth").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})\n")
    await store.finish(directory, steps=["debian_slim"], parent="")
    return Made(key="key", python=sys.executable, directory=directory, runner_path=str(tmp_path))


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "app.py").write_text("x = 1\n")
    (tmp_path / "tree" / "broken.py").write_text("x = \n")
    return tmp_path / "tree"


async def _done(compiler: Compiler) -> None:
    (task,) = compiler._tasks
    await task


async def test_a_tree_is_compiled_once_and_its_code_names_the_place_in_the_container(
    compiler, made, tree
):
    compiler.begin(made, str(tree))
    compiler.begin(made, str(tree))
    await _done(compiler)

    (written,) = (tree / "__pycache__").iterdir()
    assert importlib.util.cache_from_source(str(tree / "app.py")) == str(written)
    assert "/root/app.py" == marshal.loads(written.read_bytes()[16:]).co_filename


async def test_the_compiler_knows_whether_the_packages_of_an_image_are_compiled(
    compiler, made, tree
):
    assert not compiler.has(made)

    compiler.begin(made, str(tree))
    await _done(compiler)

    assert compiler.has(made)


async def test_a_tree_that_is_deleted_meanwhile_is_not_made_again(compiler, made, tree, tmp_path):
    text = "# much to read\n" * 2**19 + "x = 1\n" * 100_000  # and slow to compile
    (tree / "app.py").write_text(text)
    compiler.begin(made, str(tree))

    def has_read() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end between two questions
            return any(
                child.io_counters().read_chars > len(text)
                for child in psutil.Process().children(recursive=True)
                if str(tree) in child.cmdline()
            )
        return False

    await until(has_read, "the compiler to read the file")
    tree.rename(tmp_path / "gone")
    await _done(compiler)

    assert not tree.exists()


async def test_packages_are_compiled_where_they_are_and_none_of_them_runs(
    compiler, made, tree, tmp_path
):
    (package,) = made.directory.glob("venv/lib/*/*/pack/__init__.py")
    before = stamp(str(package)), names(str(package.parents[1])), names(str(package.parent))
    compiler.begin(made, str(tree))
    await _done(compiler)

    assert Path(importlib.util.cache_from_source(str(package))).exists()
    assert (made.directory / compiled.DONE).exists()
    assert not (tmp_path / "ran").exists()
    # What a zygote looks at is as before, so no zygote ends.
    assert before == (
        stamp(str(package)),
        names(str(package.parents[1])),
        names(str(package.parent)),
    )


async def test_a_link_out_of_the_packages_is_not_compiled(compiler, made, tree, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "private.py").write_text("secret = 1\n")
    (package,) = made.directory.glob("venv/lib/*/*/pack")
    (package / "leak.py").symlink_to(tmp_path / "elsewhere" / "private.py")
    made = Made(key="key", python=made.python, directory=made.directory, runner_path="")
    compiler.begin(made, str(tree))
    await _done(compiler)

    assert ["__init__"] == [p.name.partition(".")[0] for p in (package / "__pycache__").iterdir()]


async def test_a_compilation_ends_with_its_server(compiler, made, tree):
    for number in range(200):
        (tree / f"a{number}.py").write_text("x = 1\n" * 2000)
    compiler.begin(made, str(tree))
    (task,) = compiler._tasks
    await compiler.close()

    assert task.cancelled()
    assert not (made.directory / compiled.DONE).exists()


def test_of_what_a_hostile_python_has_written_only_compiled_files_are_taken(tree, tmp_path):
    written, outside = tmp_path / "written", tmp_path / "outside"
    for path in (written / "sub", written / "link", outside, tree / "sub"):
        path.mkdir(parents=True)
    (tree / "sub" / "part.py").write_text("")
    (tree / "link").symlink_to(outside)
    (outside / "app.py").write_text("")
    for name in ("app.cpython-311.pyc", "nobody.cpython-311.pyc", "app.py", "sub/part.x.pyc"):
        (written / name).write_text("new")
    (written / "link" / "app.x.pyc").write_text("new")
    (tmp_path / "secret").write_text("secret")
    (written / "broken.cpython-311.pyc").symlink_to(tmp_path / "secret")
    os.mkfifo(written / "sub" / "part.y.pyc")
    compiled._take(written, tree)

    found = {str(p.relative_to(tree)) for p in tree.rglob("*.pyc")}
    assert {"__pycache__/app.cpython-311.pyc", "sub/__pycache__/part.x.pyc"} == found
    assert ["app.py"] == os.listdir(outside)
    assert "x = 1\n" == (tree / "app.py").read_text()


def test_an_interpreter_takes_the_compiled_files(tmp_path):
    """Also where the interpreter that compiled imported nothing but the standard library."""
    (tmp_path / "a.py").write_text("print(__cached__)\n")
    words = [sys.executable, "-I", "-S", "-c", compiled.CODE, "", "", str(tmp_path)]
    subprocess.run(words, check=True)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.pyc")}
    subprocess.run([sys.executable, "-c", "import a"], cwd=tmp_path, check=True)

    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.pyc")} != {}
