"""Loading a script: a syntax error shows the line and the place in it."""

import pytest

from homeport.sdk.declare.script import _syntax_error


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("def f(:\n    pass\n", 1, "    def f(:\n          ^"),
        ("x = 1\nx +\n", 2, "    x +\n       ^"),
    ],
)
def test_a_syntax_error_shows_its_line_and_a_mark_below_it(text, line, shown):
    with pytest.raises(SyntaxError) as caught:
        compile(text, "/home/ada/app.py", "exec")
    failure = _syntax_error(caught.value)

    assert shown == failure.traceback
    assert f"app.py:{line}" == failure.where
    assert failure.message.startswith("SyntaxError: ")


def test_a_syntax_error_without_a_line_shows_none():
    failure = _syntax_error(SyntaxError("source code cannot contain null bytes"))

    assert "" == failure.traceback
    assert "SyntaxError: source code cannot contain null bytes" == failure.message
