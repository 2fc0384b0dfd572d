"""Finds the line of the user's script that declares something, for error messages."""

import os
import sys
import types

_SDK = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs 10 ms


def here() -> str:
    """Return the innermost line of the stack that is not in homeport, as `hello.py:7`."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((_SDK, "<frozen")):
            return f"{os.path.basename(path)}:{frame.f_lineno}"  # noqa: PTH119
        frame = frame.f_back
    return ""


def of_code(function: object) -> str:
    """Return the line where a function begins, as `hello.py:12`; empty if it has no Python code."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"  # noqa: PTH119
