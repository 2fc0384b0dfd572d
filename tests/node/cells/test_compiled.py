"""Python files are compiled ahead for containers that cannot keep compiled files."""

import importlib.util
import marshal
import sys

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
