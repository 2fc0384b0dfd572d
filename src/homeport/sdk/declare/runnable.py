"""Finds what `homeport run` runs in a script: a local entrypoint, a function, or a method of a class."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ScriptError
from homeport.sdk.objects.app import App, LocalEntrypoint
from homeport.sdk.objects.cls import Cls
from homeport.sdk.objects.function import Function
from homeport.sdk.objects.partial import PartialFunction

#: Levels in which a script without a name after `::` is searched; the first level with a candidate decides.
MODULE_ENTRYPOINT, MODULE_FUNCTION, APP_ENTRYPOINT, APP_FUNCTION = range(4)


@dataclass(frozen=True)
class Runnable:
    """The function or local entrypoint to run."""

    name: str  # after `::`
    app: App
    entry: LocalEntrypoint | Function | Cls
    method: str = ""  # of a class

    @property
    def raw(self) -> Any:
        """The user's own function."""
        return (
            self.entry.partials[self.method].raw if isinstance(self.entry, Cls) else self.entry.raw
        )

    @property
    def generates(self) -> bool:
        """True if a call returns many values."""
        if isinstance(self.entry, LocalEntrypoint):
            return False
        if isinstance(self.entry, Cls):
            return self.entry.partials[self.method].generates
        return bool(self.entry.generates)


def choose(module: ModuleType, name: str, target: str) -> Runnable:
    """Return the object that `target::name` names; without a name, the only candidate of the best level.

    `ScriptError` lists the candidates if there is none or more than one.
    """
    runnable = _named(module, name, target) if name else _only(list(_all(module)), target)
    if runnable.generates:
        raise ScriptError(
            f"`{runnable.name}` is a generator, and `homeport run` runs none",
            hint="write a `@app.local_entrypoint()` that calls `.remote_gen()`",
        )
    return runnable


def _only(candidates: list[tuple[int, Runnable]], target: str) -> Runnable:
    if not candidates:
        raise ScriptError(
            f"there is nothing to run in `{target}`",
            hint="write a function and put `@app.local_entrypoint()` or `@app.function()` above it; "
            "web functions are for `homeport serve`",
        )
    best = min(level for level, _ in candidates)
    first = [runnable for level, runnable in candidates if level == best]
    if len(first) > 1:
        raise ScriptError(
            f"there are {len(first)} things to run in `{target}`", hint=_list(candidates, target)
        )
    return first[0]


def _named(module: ModuleType, name: str, target: str) -> Runnable:
    head, _, method = name.partition(".")
    value = vars(module).get(head)
    if isinstance(value, App):
        if not method:
            return _only(list(_of_app(value, head)), target)
        for entry in _under(value, method):
            return _of(entry[0], name, entry[1], target, value)
    elif isinstance(value, LocalEntrypoint | Function | Cls):
        return _of(value, name, method, target, _app_of(module, value))
    else:
        for app in _apps(module).values():
            for entry in _under(app, name):
                return _of(entry[0], name, entry[1], target, app)
    names = [runnable.name for _, runnable in _all(module)]
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    if head in vars(module) and not near:
        raise ScriptError(
            f"`{name}` is neither a local entrypoint nor a function of an App",
            hint=_list(list(_all(module)), target),
        )
    raise ScriptError(
        f"there is no `{name}` in `{target}`",
        hint=f"did you mean `{target}::{near[0]}`?" if near else _list(list(_all(module)), target),
    )


def _of(entry: Any, name: str, method: str, target: str, app: App) -> Runnable:
    """Return an entry as a runnable; raise if it is a web function, or no such method."""
    partial: PartialFunction | None = None
    if isinstance(entry, Cls):
        methods = list(entry.methods())
        if not method and len(methods) == 1:
            method, name = methods[0], f"{name}.{methods[0]}"
        partial = entry.partials.get(method)
        if partial is None or method not in entry.interfaces():
            methods_in_words = ", ".join(
                f"`{target}::{name.partition('.')[0]}.{method_name}`" for method_name in methods
            )
            raise ScriptError(
                f"`{name}` names no method of a class"
                if not method
                else f"the class `{entry.__name__}` has no `@modal.method()` with the name `{method}`",
                where=entry.where,
                hint=f"name one: {methods_in_words}"
                if methods_in_words
                else "put `@modal.method()` above one",
            )
    elif method:
        raise ScriptError(f"there is no `{name}` in `{target}`")
    elif isinstance(entry, Function):
        partial = entry.partial
    if partial is not None and partial.web is not None:
        raise ScriptError(
            f"`{name}` is a web function, and `homeport run` runs none",
            hint=f"`homeport serve {target}` or `homeport deploy {target}` gives it a URL",
        )
    return Runnable(name, app, entry, method)


def _all(module: ModuleType) -> Iterator[tuple[int, Runnable]]:
    """Yield all candidates with their levels, each once."""
    seen: set[tuple[int, str]] = set()
    apps = _apps(module)

    def new(runnable: Runnable) -> bool:
        key = (id(runnable.entry), runnable.method)
        return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]

    for name, value in vars(module).items():
        if isinstance(value, LocalEntrypoint):
            level = MODULE_ENTRYPOINT
        elif isinstance(value, Function | Cls) and value.app is not None:  # not looked up by name
            level = MODULE_FUNCTION
        else:
            continue
        for runnable in _runnables(value, name, _app_of(module, value)):
            if new(runnable):
                yield level, runnable
    for variable, app in apps.items():
        for level, runnable in _of_app(app, variable):
            if new(runnable):
                yield level, runnable


def _of_app(app: App, variable: str) -> Iterator[tuple[int, Runnable]]:
    for name, entrypoint in app.entrypoints.items():
        yield APP_ENTRYPOINT, Runnable(f"{variable}.{name}", app, entrypoint)
    for name, value in [*app.functions.items(), *app.classes.items()]:
        for runnable in _runnables(value, f"{variable}.{name}", app):
            yield APP_FUNCTION, runnable


def _runnables(value: Any, name: str, app: App) -> Iterator[Runnable]:
    """Yield the runnables of one object: none of a web function, each method of a class."""
    if isinstance(value, Cls):
        for method in value.methods():
            yield Runnable(f"{name}.{method}", app, value, method)
    elif not (isinstance(value, Function) and value.is_web):
        yield Runnable(name, app, value)


def _under(app: App, name: str) -> Iterator[tuple[Any, str]]:
    """Yield an app's object with this tag and, for a class, the name of the method."""
    if (entry := app.entrypoints.get(name) or app.functions.get(name)) is not None:
        yield entry, ""
    head, _, method = name.partition(".")
    if (cls := app.classes.get(head)) is not None:
        yield cls, method


def _apps(module: ModuleType) -> dict[str, App]:
    """Return variable -> App, each App once."""
    apps: dict[int, tuple[str, App]] = {}
    for name, value in vars(module).items():
        if isinstance(value, App):
            apps.setdefault(id(value), (name, value))
    return dict(apps.values())


def _app_of(module: ModuleType, value: Any) -> App:
    """Return the module's app that has the object, which may have included it; else the app that declared it."""
    for app in _apps(module).values():
        if value in [*app.functions.values(), *app.classes.values(), *app.entrypoints.values()]:
            return app
    declared: App | None = value.app
    if declared is None:
        raise ScriptError(
            f"`{value.__name__}` was looked up by its name: `homeport run` runs functions of the script"
        )
    return declared


def _list(candidates: list[tuple[int, Runnable]], target: str) -> str:
    names = " or ".join(f"`{target}::{runnable.name}`" for _, runnable in candidates)
    return f"name one: {names}" if names else "put `@app.local_entrypoint()` above a function"
