"""Loading a script: what a failure says, and the line of the script that it shows."""

import sys
import textwrap

import pytest

from homeport.contract.errors import ScriptError
from homeport.sdk.declare import script
from homeport.sdk.declare.script import _syntax_error


@pytest.fixture
def failure(tmp_path):
    """Load a script; return the failure."""

    def failure(text: str) -> ScriptError:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        with pytest.raises(ScriptError) as raised:
            script.load(str(path), is_module=False)
        return raised.value

    return failure


def test_a_script_is_among_the_modules_while_it_is_loaded(tmp_path):
    path = tmp_path / "zz_script.py"
    path.write_text("import sys\nmyself = sys.modules[__name__]")
    module, root = script.load(str(path), is_module=False)

    assert (module, tmp_path) == (module.myself, root)
    del sys.modules["zz_script"]


def test_an_error_of_the_scripts_own_line_has_no_traceback(failure):
    error = failure("x = 1\n1 / 0")

    assert "script.py:2  1 / 0" == error.where
    assert "" == error.traceback


def test_the_way_to_a_line_in_a_function_is_shown(failure):
    error = failure("def f():\n    1 / 0\nf()")

    assert "script.py:2  1 / 0" == error.where
    assert "line 3, in <module>" in error.traceback


def test_a_library_that_raises_is_shown_below_the_line_that_called_it(failure):
    error = failure("import json\njson.loads('{')")

    assert "script.py:2  json.loads('{')" == error.where
    assert "json/decoder.py" in error.traceback


def test_a_cause_is_shown(failure):
    error = failure("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError(1) from e")

    assert "ZeroDivisionError" in error.traceback


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("def f(:\n    pass\n", 1, "    def f(:\n          ^"),
        ("x = 1\nx +\n", 2, "    x +\n       ^"),
    ],
)
def test_a_syntax_error_shows_its_line_and_a_mark_below_it(text, line, shown):
    with pytest.raises(SyntaxError) as raised:
        compile(text, "/home/ada/app.py", "exec")
    failure = _syntax_error(raised.value)

    assert shown == failure.traceback
    assert f"app.py:{line}" == failure.where
    assert failure.message.startswith("SyntaxError: ")


def test_a_syntax_error_without_a_line_shows_none():
    failure = _syntax_error(SyntaxError("source code cannot contain null bytes"))

    assert "" == failure.traceback
    assert "SyntaxError: source code cannot contain null bytes" == failure.message


@pytest.mark.parametrize("text", ["import random\nrandom.choice([1])", "from random import choice"])
def test_a_file_that_hides_a_module_of_python_is_named(tmp_path, monkeypatch, text):
    monkeypatch.delitem(sys.modules, "random", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "random.py").write_text("")
    (tmp_path / "dice.py").write_text(text)

    with pytest.raises(ScriptError) as raised:
        script.load(str(tmp_path / "dice.py"), is_module=False)

    assert "`random.py` hides Python's own module `random`" in raised.value.hint


@pytest.mark.parametrize("text", ["import os\nos.nothing", "from os import nothing", "'a'.nothing"])
def test_a_name_that_a_module_of_python_lacks_has_no_such_hint(failure, text):
    assert "hides" not in failure(text).hint


def test_a_null_byte_in_a_file_is_shown_with_its_line(failure):
    error = failure("x = 1\ny = '\0'\n")

    assert "script.py:2" == error.where
    assert "null byte" in error.message


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("modal.Retries(max_retries='3')", "Retries"),
        ("modal.Image.debian_slim().add_local_dir(3, '/data')", "Image.add_local_dir"),
        ("modal.asgi_app(custom_domains=3)", "asgi_app"),
    ],
)
def test_a_value_of_a_wrong_type_names_the_function_that_got_it(failure, call, name):
    error = failure(f"import modal\n{call}")

    assert f"`{name}` cannot use one of the values that it was given: TypeError" in error.message
    assert f"script.py:2  {call}" == error.where


def test_a_wrong_value_in_the_scripts_own_function_is_its_own(failure):
    assert "TypeError: unsupported" in failure("def f(): return 1 + 'a'\nf()").message
    assert failure("int('x')").message.startswith("ValueError")
