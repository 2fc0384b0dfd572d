"""`python -m homeport.sdk.declare REF`: loads a script and writes its manifest.

The command line starts it in a fresh interpreter. It writes a line of JSON to the descriptor named by
HOMEPORT_DECLARE_FD (contract/declaring.py). The script's output is not redirected. With `--ahead` it first imports
what it needs itself, and then reads from standard input, as a `Load`, which script it is.

With `--stay`, it is a warm loader: it reads `Warm` from standard input and imports those modules. Then it forks
for each `Load`, and the fork loads the script. So a script with heavy imports is loaded again as fast as a light
one. Its answers are the fork's pid, the fork's own answer, and the exit code when the fork has ended.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # nothing that these imports make is garbage; `_collect_garbage` enables it

import argparse
import dataclasses
import functools
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import NoReturn

from homeport.contract import codec, dataclass, names
from homeport.contract.api.answers import Fault
from homeport.contract.declaring import Answer, Declared, Load, Warm
from homeport.contract.errors import Failure, ScriptError
from homeport.sdk import alias, notices, watched
from homeport.sdk.declare import manifest, script
from homeport.sdk.exception import DeprecationError, Error
from homeport.sdk.files.imports import imported_later
from homeport.sdk.files.source import Tree, imported_below, imported_elsewhere, package_files
from homeport.sdk.objects import partial
from homeport.sdk.objects.app import App
from homeport.sdk.preload import loaded
from homeport.sdk.preload.recorder import Recorder
from homeport.sdk.preload.repeats import repeat
from homeport.sdk.preload.shelf import Shelf
from homeport.sdk.tracebacks import is_users

PR_SET_PDEATHSIG = 1
#: New objects between two garbage collections while the script is loaded: almost all of them are what it imports.
OBJECTS = 50_000
_environ, _cwd = dict(os.environ), os.getcwd()  # noqa: PTH109 - before the script can change them


def main() -> int:
    """Load the script; return 0 if a manifest was written."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ref", nargs="?", default="")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--ahead", action="store_true")
    parser.add_argument("-m", dest="module", action="store_true")
    parser.add_argument("--name", default="")
    arguments = parser.parse_args()
    descriptor = int(os.environ.pop("HOMEPORT_DECLARE_FD"))
    unlike = json.loads(os.environ.pop("HOMEPORT_DECLARE_UNLIKE", "[]"))
    os.set_inheritable(descriptor, False)
    end_with_parent()
    find_beside()
    if arguments.stay:
        return _stay(descriptor)
    load = Load(ref=arguments.ref, module=arguments.module, name=arguments.name)
    if arguments.ahead:
        if not (line := sys.stdin.readline()):
            return 0  # the command wants no script
        load = codec.loads(Load, line)
        sys.argv[1:] = _words(load)
    _collect_garbage()
    try:
        return _tell(descriptor, load, unlike)
    finally:
        gc.freeze()  # else the interpreter's end collects garbage among all that was imported


def find_beside() -> None:
    """Let the script import what is in the current directory.

    `-P` has kept it out while homeport's own modules were imported: a user's `argparse.py` is not for them.
    """
    sys.path.insert(0, _cwd)


def _collect_garbage() -> None:
    """Collect garbage as the script is loaded, without a look at the objects of our own imports."""
    gc.freeze()
    gc.set_threshold(OBJECTS)
    gc.enable()


def _tell(descriptor: int, load: Load, unlike: Sequence[str] = ()) -> int:
    try:
        declared = declare(load.ref, is_module=load.module, name=load.name)
        declared = dataclasses.replace(declared, unlike=tuple(unlike))
        answer = Answer(declared=declared, watch=watched.states())
    except Failure as failure:
        _watch_failed(failure)
        answer = Answer(error=Fault.of(failure), watch=watched.states())
    except KeyboardInterrupt:
        return 130
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(codec.line(answer))
    except (KeyboardInterrupt, BrokenPipeError):
        # The command has ended before its script was loaded.
        return 130
    return 1 if answer.error is not None else 0


def _stay(descriptor: int) -> int:
    """Run as a warm loader: import the modules of the first line, then fork for each further line."""
    gc.disable()  # after a collection, new objects go into half-empty pages, which each fork must copy
    alias.install()
    shelf = Shelf()
    warm = codec.loads(Warm, sys.stdin.readline() or '{"modules": []}')
    if unsafe := _preload(shelf, warm.modules):
        os.write(descriptor, codec.line(Answer(unsafe=unsafe)))
        return 0
    dataclass.complete()
    loaded.mark()
    gc.freeze()
    os.write(descriptor, codec.line(Answer(ready=True)))
    for line in sys.stdin:
        load = codec.loads(Load, line)
        child = os.fork()
        if child == 0:
            os.write(descriptor, codec.line(Answer(pid=os.getpid())))
            end_with_parent()
            gc.enable()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)  # the script must not read the next line
            os.close(null)
            if stale := shelf.stale():
                _begin_again(descriptor, load, stale, shelf.roots)
            shelf.changed = functools.partial(_begin_again, descriptor, load)
            if not load.module:
                shelf.at_home(str(Path(load.ref.partition("::")[0]).expanduser().absolute().parent))
            code = _tell(descriptor, load)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # a normal exit would clear all modules, and so copy their pages
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # Start with a newline: a fork that was killed may have written half a line.
        os.write(descriptor, b"\n" + codec.line(Answer(code=code)))
    return 0


def _preload(shelf: Shelf, modules: Sequence[str]) -> str:
    """Put the modules on the shelf. Return the first unsafe module, after which this process cannot fork."""
    recorder = Recorder(shelf)
    saved_streams = [os.dup(stream) for stream in (1, 2)]
    printed = os.memfd_create("printed")  # the recorder finds here whether an import prints
    for stream in (1, 2):
        os.dup2(printed, stream)
    try:
        for name in modules:
            if recorder.load(name):
                return name
    finally:
        for stream, saved in zip((1, 2), saved_streams, strict=True):
            os.dup2(saved, stream)
            os.close(saved)
        os.close(printed)
    shelf.settle()
    shelf.prepare()
    shelf.repeat, shelf.looks = repeat, lambda _name: None
    return ""


def _begin_again(descriptor: int, load: Load, _reason: str, modules: Sequence[str]) -> NoReturn:
    """Load the script in a fresh interpreter, because a preloaded module differs from a fresh import."""
    words = _words(load)
    os.set_inheritable(descriptor, True)
    environ = {
        **_environ,
        "HOMEPORT_DECLARE_FD": str(descriptor),
        "HOMEPORT_DECLARE_UNLIKE": json.dumps(list(modules)),
    }
    os.chdir(_cwd)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "homeport.sdk.declare", *words], environ)  # noqa: S606


def _words(load: Load) -> list[str]:
    """Return the arguments of a process that loads this script alone."""
    name = ["--name", load.name] if load.name else []
    return [load.ref, *(["-m"] if load.module else []), *name]


def _watch_failed(failure: BaseException) -> None:
    """Watch the files that must change before the script can load: loaded modules, and the error's files."""
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


def end_with_parent() -> None:
    """End this process when its parent ends, even if the script never finishes loading (man 2 prctl)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def declare(ref: str, *, is_module: bool = False, name: str = "") -> Declared:
    """Return the manifest and files of the app that a reference names; `ScriptError` if it cannot load."""
    target, _, variable = ref.partition("::")
    return declare_app(
        target, lambda module: _app(module, variable, target), is_module=is_module, name=name
    )


def declare_app(
    target: str,
    find: Callable[[ModuleType], App],
    *,
    is_module: bool = False,
    name: str = "",
    unnamed: str = "",
) -> Declared:
    """Return the manifest and files of the app that `find` finds in a script or module.

    Its name is `name`, else the app's own, else `unnamed`. `ScriptError` if it cannot load.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        module, root = script.load(target, is_module=is_module)
        try:
            app = find(module)
            deployment = _name(name or app.name or unnamed, app, target)
            declared = _build(app, deployment, target, module, root, is_package=is_module)
        except Error as error:
            raise ScriptError(str(error), where=script.where(error)) from error
    messages = [
        *declared.warnings,
        *notices.take(),
        *(f"{w.filename}:{w.lineno}: {w.message}" for w in caught if _concerns(w)),
        *(
            f"{p.where}: `{p.name}` is decorated and belongs to no app: "
            "put `@app.function()` above its other decorators"
            for p in partial.unconsumed()
        ),
    ]
    return dataclasses.replace(declared, warnings=tuple(messages))


def declare_loaded(
    app: App, module: ModuleType, root: Path, *, name: str, unnamed: str, is_package: bool
) -> Declared:
    """Return the same for an app of this process, whose module is loaded already."""
    target = str(module.__file__)
    try:
        deployment = _name(name or app.name or unnamed, app, target)
        declared = _build(app, deployment, target, module, root, is_package=is_package)
    except Error as error:
        raise ScriptError(str(error), where=script.where(error)) from error
    return dataclasses.replace(declared, warnings=(*declared.warnings, *notices.take()))


def _build(
    app: App, name: str, target: str, module: ModuleType, root: Path, *, is_package: bool
) -> Declared:
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
    declared_in = [f.app for f in app.functions.values()] + [c.app for c in app.classes.values()]
    images = [manifest.image_of(*arguments) for arguments in zip(declared_in, options, strict=True)]
    for image in images:
        tree.add_image(image)
    files, sources = tree.files()
    build_files, build_sources = tree.build_files()
    return Declared(
        manifest=manifest.build(app, name, target, files, build_files),
        sources=sources | build_sources,
        modules=tuple(loaded.third_party()),
        warnings=(*dict.fromkeys(tree.left_out), *imported_elsewhere(root, images)),
    )


def _app(module: ModuleType, variable: str, target: str) -> App:
    apps = {k: v for k, v in vars(module).items() if isinstance(v, App)}
    distinct = {id(v): k for k, v in reversed(apps.items())}
    if variable:
        if variable in apps:
            return apps[variable]
        if hasattr(module, variable):
            raise ScriptError(f"`{variable}` is not a Modal App", hint=_candidates(apps, target))
        import difflib

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
    references = " or ".join(f"`{target}::{name}`" for name in apps)
    return f"name one: {references}" if references else 'write `app = modal.App("my-app")`'


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


def _concerns(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, (UserWarning, DeprecationError))


if __name__ == "__main__":
    raise SystemExit(main())
