"""`python -m homeport.sdk.declare REF`: loads a script and says what it declares.

Started by the command line in a fresh interpreter. Writes one JSON object to the descriptor named by
HOMEPORT_DECLARE_FD: `{"manifest", "sources": {sha256: path}, "watch": {path: state}, "modules": [name],
"warnings": [text], "unlike": [name]}`, or `{"error": Failure, "watch"}`. What the script prints goes where it would.

With `--stay`, it reads one line of JSON with the names of modules from standard input and imports
them; then each further line, `{"ref", "module", "name"}`, is declared by a fork. So a script whose
imports are heavy is loaded again as fast as a light one. The answer is `{"pid"}` of the fork, the
fork's own line, and `{"code"}` once it has ended.
"""

import argparse
import difflib
import functools
import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from traceback import walk_tb
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from homeport.contract import codec, names
from homeport.contract.errors import Failure, ScriptError
from homeport.sdk import alias, notices, watched
from homeport.sdk.declare import loader, manifest
from homeport.sdk.exception import DeprecationError, Error
from homeport.sdk.files.imports import imported_later
from homeport.sdk.files.source import Tree, imported_below, imported_elsewhere, package_files
from homeport.sdk.objects import partial
from homeport.sdk.objects.app import App
from homeport.sdk.preload import loaded
from homeport.sdk.preload.recorder import Recorder
from homeport.sdk.preload.repeats import repeat
from homeport.sdk.preload.shelf import Shelf
from homeport.sdk.tracebacks import is_ours, is_users, users_traceback

PR_SET_PDEATHSIG = 1
_environ, _cwd = dict(os.environ), os.getcwd()  # noqa: PTH109 - as a script finds them


def main() -> int:
    """0 when a manifest was written."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ref", nargs="?", default="")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("-m", dest="module", action="store_true")
    parser.add_argument("--name", default="")
    arguments = parser.parse_args()
    descriptor = int(os.environ.pop("HOMEPORT_DECLARE_FD"))
    unlike = json.loads(os.environ.pop("HOMEPORT_DECLARE_UNLIKE", "[]"))
    os.set_inheritable(descriptor, False)
    _end_with_parent()
    if arguments.stay:
        return _stay(descriptor)
    return _tell(
        descriptor, arguments.ref, is_module=arguments.module, name=arguments.name, unlike=unlike
    )


def _tell(
    descriptor: int, ref: str, *, is_module: bool, name: str, unlike: Sequence[str] = ()
) -> int:
    try:
        told = declare(ref, is_module=is_module, name=name)
        told["unlike"] = list(unlike)
    except Failure as failure:
        _watch_failed(failure)
        told = {"error": failure.to_dict(), "watch": watched.states()}
    except KeyboardInterrupt:
        return 130
    with os.fdopen(descriptor, "w") as out:
        out.write(json.dumps(told) + "\n")
    return 1 if "error" in told else 0


def _stay(descriptor: int) -> int:
    """Fork for each line."""
    gc.disable()  # a page that a collection has emptied in part is one that forks unshare
    alias.install()
    shelf = Shelf()
    if unsafe := _preload(shelf, json.loads(sys.stdin.readline() or "[]")):
        os.write(descriptor, json.dumps({"unsafe": unsafe}).encode() + b"\n")
        return 0
    loaded.mark()
    gc.freeze()
    os.write(descriptor, b'{"ready": true}\n')
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            os.write(descriptor, json.dumps({"pid": os.getpid()}).encode() + b"\n")
            _end_with_parent()
            gc.enable()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)  # the next line is not the script's to read
            os.close(null)
            if stale := shelf.stale():
                _begin_again(descriptor, asked, stale, shelf.roots)
            shelf.changed = functools.partial(_begin_again, descriptor, asked)
            if not asked["module"]:
                shelf.at_home(
                    str(Path(asked["ref"].partition("::")[0]).expanduser().absolute().parent)
                )
            code = _tell(descriptor, asked["ref"], is_module=asked["module"], name=asked["name"])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # to clear up every module would unshare the pages of all of them
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # A line of its own, even where the fork has begun one and was killed.
        os.write(descriptor, b"\n" + json.dumps({"code": code}).encode() + b"\n")
    return 0


def _preload(shelf: Shelf, modules: list[str]) -> str:
    """Put them on the shelf; the first one that is unsafe, which spoils this process."""
    recorder = Recorder(shelf)
    kept = [os.dup(stream) for stream in (1, 2)]
    printed = os.memfd_create("printed")  # whoever prints while it is imported is found out by it
    for stream in (1, 2):
        os.dup2(printed, stream)
    try:
        for name in modules:
            if recorder.load(name):
                return name
    finally:
        for stream, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, stream)
            os.close(saved)
        os.close(printed)
    shelf.settle()
    shelf.prepare()
    shelf.repeat, shelf.looks = repeat, lambda _name: None
    return ""


def _begin_again(
    descriptor: int, asked: dict[str, Any], _reason: str, modules: Sequence[str]
) -> NoReturn:
    """Load the script in a fresh interpreter: a preloaded module is not what it would import now."""
    words = [asked["ref"], *(["-m"] if asked["module"] else [])]
    words += ["--name", asked["name"]] if asked["name"] else []
    os.set_inheritable(descriptor, True)
    environ = {
        **_environ,
        "HOMEPORT_DECLARE_FD": str(descriptor),
        "HOMEPORT_DECLARE_UNLIKE": json.dumps(list(modules)),
    }
    os.chdir(_cwd)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", "homeport.sdk.declare", *words], environ)  # noqa: S606


def _watch_failed(failure: BaseException) -> None:
    """What has to change before the script can be loaded: what was loaded, and what it ended in."""
    for name in loaded.since_mark():
        file = getattr(sys.modules[name], "__file__", None)
        if file and is_users(file):
            watched.add(file)
    error: BaseException | None = failure
    while error is not None:
        if isinstance(error, SyntaxError) and error.filename:
            watched.add(error.filename)
        for frame, _ in walk_tb(error.__traceback__):
            if is_users(frame.f_code.co_filename):
                watched.add(frame.f_code.co_filename)
        error = error.__cause__ or error.__context__


def _end_with_parent() -> None:
    """A script that loads for ever must not go on when nobody waits for it (man 2 prctl)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def declare(ref: str, *, is_module: bool = False, name: str = "") -> dict[str, Any]:
    """What a reference declares; `ScriptError` where it cannot be loaded."""
    target, _, variable = ref.partition("::")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        module, root = _load_module(target) if is_module else _load_script(target)
        try:
            app = _app(module, variable, target)
            deployment = _name(name or app.name, app, target)
            told = _build(app, deployment, target, module, root, is_package=is_module)
        except Error as error:
            raise ScriptError(str(error), where=_where(error)) from error
    told["warnings"] += [
        *notices.take(),
        *(f"{w.filename}:{w.lineno}: {w.message}" for w in caught if _concerns(w)),
        *(
            f"{p.where}: `{p.name}` is decorated and belongs to no app: "
            "put `@app.function()` above its other decorators"
            for p in partial.unconsumed()
        ),
    ]
    return told


def _build(
    app: App, name: str, target: str, module: ModuleType, root: Path, *, is_package: bool
) -> dict[str, Any]:
    tree = Tree(root)
    assert module.__file__ is not None
    entry = Path(module.__file__).absolute()
    tree.add(entry)
    options = [f.options for f in app.functions.values()] + [
        c.options for c in app.classes.values()
    ]
    if app.include_source and all(o["include_source"] is not False for o in options):
        imported = {entry, *imported_below(root)}
        for path in imported | imported_later(imported, root):
            tree.add(path)
        if is_package and (top := root / module.__name__.partition(".")[0]).is_dir():
            for path in package_files(top):
                tree.add(path)
    images = [manifest.image_of(app, each) for each in options]
    for image in images:
        tree.add_image(image)
    files, sources = tree.files()
    declared = manifest.build(app, name, target, files)
    return {
        "manifest": codec.encode(declared),
        "sources": sources,
        "watch": watched.states(),
        "modules": list(loaded.third_party()),
        "warnings": [*dict.fromkeys(tree.left_out), *imported_elsewhere(root, images)],
    }


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
    return _guarded(lambda: loader.load_script(path), path), path.parent


def _load_module(target: str) -> tuple[ModuleType, Path]:
    if target.endswith(".py"):
        raise ScriptError(f"`{target}` is a file", hint="leave out `-m`")
    cwd = Path.cwd()
    module = _guarded(lambda: loader.load_module(target, str(cwd)), None)
    if not getattr(module, "__file__", None):
        raise ScriptError(f"`{target}` is a package without `__init__.py`")
    top = (
        Path(str(module.__file__))
        .absolute()
        .parents[target.count(".") + (1 if hasattr(module, "__path__") else 0)]
    )
    return module, top


def _guarded(load: Any, script: Path | None) -> ModuleType:
    """Load, and turn whatever the user's code raises into a `ScriptError`."""
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
            where=_where(error),
            hint='put what it does under `if __name__ == "__main__":`',
        ) from None
    except ImportError as error:
        if "relative import" in str(error) and script is not None:
            module = f"{script.parent.name}.{script.stem}"
            raise ScriptError(
                f"`{script.name}` uses a relative import, so it is part of a package",
                where=_where(error),
                hint=f"load it as a module, from the directory above: `-m {module}`",
            ) from None
        failure = _raised(error)
        missing = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and missing not in ("", "modal", "homeport"):
            failure.hint = (
                f"install `{missing}` beside homeport; or, if only the image has it, import it in "
                "the function, or under `with image.imports():`"
            )
        raise failure from None
    except Exception as error:
        raise _raised(error) from None


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
        # What the user declared makes no sense: the text says it, a traceback would not.
        return ScriptError(str(error), where=_where(error))
    return ScriptError(
        f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
        where=_where(error),
        traceback=users_traceback(error),
    )


def _where(error: BaseException) -> str:
    found = ""
    at: TracebackType | None = error.__traceback__
    while at is not None:
        path = at.tb_frame.f_code.co_filename
        if not is_ours(path):
            line = _line(path, at.tb_lineno)
            found = f"{Path(path).name}:{at.tb_lineno}" + (f"  {line}" if line else "")
        at = at.tb_next
    return found


def _line(path: str, number: int) -> str:
    import linecache

    return linecache.getline(path, number).strip()


def _app(module: ModuleType, variable: str, target: str) -> App:
    apps = {k: v for k, v in vars(module).items() if isinstance(v, App)}
    distinct = {id(v): k for k, v in reversed(apps.items())}
    if variable:
        if variable in apps:
            return apps[variable]
        if hasattr(module, variable):
            raise ScriptError(f"`{variable}` is not a Modal App", hint=_candidates(apps, target))
        near = difflib.get_close_matches(variable, apps, 1)
        hint = f"did you mean `{target}::{near[0]}`?" if near else _candidates(apps, target)
        raise ScriptError(f"there is no `{variable}` in `{target}`", hint=hint)
    if not apps:
        raise ScriptError(
            f"there is no App in `{target}`",
            hint='write `app = modal.App("my-app")` at the top of the script',
        )
    if len(distinct) > 1 and "app" not in apps:
        raise ScriptError(
            f"there are {len(distinct)} Apps in `{target}`", hint=_candidates(apps, target)
        )
    return apps.get("app") or next(iter(apps.values()))


def _candidates(apps: dict[str, App], target: str) -> str:
    told = " or ".join(f"`{target}::{name}`" for name in apps)
    return f"name one: {told}" if told else 'write `app = modal.App("my-app")`'


def _name(name: str | None, app: App, target: str) -> str:
    if not name:
        raise ScriptError(
            "You need to either supply a deployment name or have a name set on the app.",
            where=app.where,
            hint=f'`modal.App("my-app")` in the script, or `--name my-app` after `{target}`',
        )
    if not names.is_object_name(name):
        raise ScriptError(
            f"Invalid App name: '{name}'.",
            where=app.where,
            hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
        )
    return name


def _nearby(path: Path) -> str:
    try:
        scripts = [p.name for p in path.parent.iterdir() if p.suffix == ".py"]
    except OSError:
        return f"there is no directory `{path.parent}` either"
    near = difflib.get_close_matches(path.name, scripts, 1)
    return f"did you mean `{path.parent / near[0]}`?" if near else ""


def _concerns(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, (UserWarning, DeprecationError))


if __name__ == "__main__":
    raise SystemExit(main())
