"""Loads the script that a reference names, and explains its errors in terms of the script.

Called by `declare` (__main__.py). Whatever the user's code raises becomes a `ScriptError` with its line.
"""

import sys
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from homeport.contract.errors import Failure, ScriptError
from homeport.sdk import watched
from homeport.sdk.declare import loader, sources
from homeport.sdk.exception import DeprecationError, Error
from homeport.sdk.tracebacks import is_ours, is_users, users_traceback

#: What Python raises if a function gets a value of a wrong type.
WRONG_VALUE = (TypeError, AttributeError, ValueError, ArithmeticError, AssertionError)


def load(target: str, *, is_module: bool) -> tuple[ModuleType, Path]:
    """Load a script, or a module by its dotted name; return it with the root of its source tree."""
    sources.install()
    return _load_module(target) if is_module else _load_script(target)


def _load_script(target: str) -> tuple[ModuleType, Path]:
    path = Path(target).expanduser()
    watched.add(path)
    single = target.rfind(":")
    if single > 1 and not path.exists():
        suggestion = f"{target[:single]}::{target[single + 1 :]}"
        raise ScriptError(
            f"Invalid object reference: `{target}`",
            hint=f"Did you mean '::' instead of ':'? `{suggestion}`",
        )
    if path.suffix != ".py":
        if not path.exists() and "/" not in target and target.replace(".", "").isidentifier():
            raise ScriptError(
                "Python module paths must be specified with the -m flag. "
                f"Use `-m {target}` instead."
            )
        raise ScriptError(f"`{target}` is not a Python file", hint="its name must end in `.py`")
    if not path.exists():
        raise ScriptError(f"there is no file `{target}`", hint=_nearby(path))
    if path.is_dir():
        raise ScriptError(f"`{target}` is a directory")
    if "." in path.stem:
        raise ScriptError(
            f"Invalid Modal source filename: '{path.name}'. "
            "Source filename cannot contain additional period characters."
        )
    path = path.absolute()
    return _guarded(lambda: loader.load_script(path, sources.SourceLoader), path), path.parent


def _load_module(target: str) -> tuple[ModuleType, Path]:
    if target.endswith(".py"):
        raise ScriptError(f"`{target}` is a file", hint="leave out `-m`")
    cwd = Path.cwd()
    module = _guarded(lambda: _import(target, str(cwd)), None)
    if not getattr(module, "__file__", None):
        raise ScriptError(f"`{target}` is a package without `__init__.py`")
    top = (
        Path(str(module.__file__))
        .absolute()
        .parents[target.count(".") + (1 if hasattr(module, "__path__") else 0)]
    )
    return module, top


def _import(target: str, directory: str) -> ModuleType:
    try:
        return loader.load_module(target, directory, sources.SourceLoader)
    except ModuleNotFoundError as error:
        if not error.name or not f"{target}.".startswith(f"{error.name}."):
            raise
        raise ScriptError(
            f"there is no module `{error.name}`",
            hint=f"`-m {target}` looks for it in the current directory, {directory}",
        ) from None


def _guarded(load: Any, script: Path | None) -> ModuleType:
    """Call `load`; if the user's code raises, raise `ScriptError` with the line and a hint."""
    try:
        return load()  # type: ignore[no-any-return]
    except SyntaxError as error:
        if error.filename and not is_ours(error.filename):
            raise _syntax_error(error) from None
        raise
    except Failure:
        raise
    except SystemExit as error:
        raise ScriptError(
            f"the script ended itself with exit({error.code!r}) while it was loaded",
            where=where(error),
            hint='put what it does under `if __name__ == "__main__":`',
        ) from None
    except ImportError as error:
        if "relative import" in str(error) and script is not None:
            module = f"{script.parent.name}.{script.stem}"
            raise ScriptError(
                f"`{script.name}` uses a relative import, so it is part of a package",
                where=where(error),
                hint=f"load it as a module, from the directory above: `-m {module}`",
            ) from None
        failure = _raised(error)
        missing = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and missing not in ("", "modal", "homeport"):
            failure.hint = (
                f"install `{missing}` beside homeport; or, if only the image has it, import it in "
                "the function, or under `with image.imports():`"
            )
        failure.hint = _hidden(error) or failure.hint
        raise failure from None
    except Exception as error:
        failure = _raised(error)
        failure.hint = _hidden(error) or failure.hint
        raise failure from None


def _hidden(error: Exception) -> str:
    """Return the hint for an error of a user's file that has the name of one of Python's own modules, or ''."""
    if isinstance(error, ImportError):
        name, path = error.name, error.path
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name, path = error.obj.__name__, error.obj.__file__
    else:
        return ""
    if name not in sys.stdlib_module_names or not path or not is_users(path):
        return ""
    file = Path(path).name
    return (
        f"`{file}` hides Python's own module `{name}` from every import: give the file another name"
    )


def _syntax_error(error: SyntaxError) -> ScriptError:
    line = (error.text or "").rstrip("\n")
    caret = " " * (max(error.offset or 1, 1) - 1) + "^"
    shown = f"    {line}\n    {caret}" if line else ""
    return ScriptError(
        f"{type(error).__name__}: {error.msg}",
        where=f"{Path(error.filename or '').name}:{error.lineno}",
        traceback=shown,
    )


def _raised(error: BaseException) -> ScriptError:
    if isinstance(error, (Error, DeprecationError)):
        # The SDK raised it for a wrong declaration: its text and the line are enough, without a traceback.
        return ScriptError(str(error), where=where(error))
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, WRONG_VALUE) and (name := _given_to(error)):
        text = f"`{name}` cannot use one of the values that it was given: {text}"
    return ScriptError(
        text,
        where=where(error),
        traceback=users_traceback(error) if _has_more(error) else "",
    )


def _given_to(error: BaseException) -> str:
    """Return the name of the function of homeport that the script called and that raised, or ''."""
    frames = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    own = len(frames)
    while own and not is_users(frames[own - 1].co_filename):
        own -= 1
    called = frames[own:]
    if (
        not called
        or called[0].co_filename.startswith("<frozen")
        or not is_ours(called[0].co_filename)
    ):
        return ""
    return str(getattr(called[0], "co_qualname", called[0].co_name)).removesuffix(".__init__")


def _has_more(error: BaseException) -> bool:
    """Return whether a traceback says more than the error's text and its line in the script."""
    frames = [f for f, _ in walk_tb(error.__traceback__) if not is_ours(f.f_code.co_filename)]
    context = None if error.__suppress_context__ else error.__context__
    return len(frames) > 1 or bool(error.__cause__ or context or getattr(error, "exceptions", ()))


def where(error: BaseException) -> str:
    """Return the innermost line of the traceback that is in a user's file, as `hello.py:7  text`.

    If no line is, return the innermost one of a library.
    """
    lines = [(f.f_code.co_filename, number) for f, number in walk_tb(error.__traceback__)]
    theirs = [at for at in lines if is_users(at[0])] or [at for at in lines if not is_ours(at[0])]
    if not theirs:
        return ""
    path, number = theirs[-1]
    line = _line(path, number)
    return f"{Path(path).name}:{number}" + (f"  {line}" if line else "")


def _line(path: str, number: int) -> str:
    import linecache

    return linecache.getline(path, number).strip()


def _nearby(path: Path) -> str:
    try:
        scripts = [p.name for p in path.parent.iterdir() if p.suffix == ".py"]
    except OSError:
        return f"there is no directory `{path.parent}` either"
    import difflib

    near = difflib.get_close_matches(path.name, scripts, 1)
    return f"did you mean `{path.parent / near[0]}`?" if near else ""
