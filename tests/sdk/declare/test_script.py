"""Loading a script: what a failure says, and the line of the script that it shows."""

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
