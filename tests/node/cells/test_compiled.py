"""Python files are compiled ahead for containers that cannot keep compiled files."""

import asyncio
import importlib.util
import marshal
import os
import sys

import psutil
import pytest

from homeport.node.cells.compiled import Compiler


@pytest.fixture
async def compiler():
    compiler = Compiler()
    yield compiler
    await compiler.close()


async def test_a_tree_is_compiled_once_and_its_code_names_the_place_in_the_container(
    compiler, tmp_path
):
    (tmp_path / "app.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = \n")
    compiler.begin(sys.executable, str(tmp_path))
    compiler.begin(sys.executable, str(tmp_path))
    (task,) = compiler._tasks
    await task

    (compiled,) = (tmp_path / "__pycache__").iterdir()
    assert importlib.util.cache_from_source(str(tmp_path / "app.py")) == str(compiled)
    assert "/root/app.py" == marshal.loads(compiled.read_bytes()[16:]).co_filename


async def test_a_compilation_ends_with_its_server(compiler, tmp_path):
    for number in range(200):
        (tmp_path / f"a{number}.py").write_text("x = 1\n" * 2000)
    compiler.begin(sys.executable, str(tmp_path))
    (task,) = compiler._tasks
    await compiler.close()

    assert task.cancelled()


async def test_a_tree_that_is_deleted_meanwhile_is_not_made_again(compiler, tmp_path):
    (tree := tmp_path / "tree").mkdir()
    text = "# much to read\n" * 2**19 + "x = 1\n" * 100_000  # and slow to compile
    (tree / "app.py").write_text(text)
    compiler.begin(sys.executable, str(tree))
    (task,) = compiler._tasks
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(has_read, str(tree), len(text)):
            await asyncio.sleep(0.005)
    tree.rename(tmp_path / "gone")
    await task

    assert ["gone"] == os.listdir(tmp_path)


def has_read(tree: str, size: int) -> bool:
    """Whether the process that compiles this tree has read so many bytes."""
    return any(
        child.io_counters().read_chars > size
        for child in psutil.Process().children()
        if tree in child.cmdline()
    )


async def test_it_imports_nothing_of_the_user(compiler, tmp_path, monkeypatch):
    for name in ("compileall", "py_compile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    compiler.begin(sys.executable, str(tmp_path))
    (task,) = compiler._tasks
    await task

    assert 2 == len(list((tmp_path / "__pycache__").iterdir()))
