"""Reports what a module's code does while it is imported (recorder.py).

Python has no events for these actions, so functions of the standard library are replaced during an import.
A module that has imported a replacement into its own namespace gets the original back.
"""

import atexit
import builtins
import codecs
import contextlib
import functools
import io
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol, cast

_bootstrap: Any = sys.modules["importlib._bootstrap"]


class Listener(Protocol):
    """Receives each action of the module whose code runs."""

    def did(self, what: str, *args: Any) -> None: ...
    def read(self, name: str, value: "str | None") -> None: ...
    def read_all(self) -> None: ...
    def spoil(self, reason: str) -> None: ...
    def drew(self, data: bytes) -> None: ...
    def asked_cwd(self) -> None: ...
    def opened(self, path: str) -> None: ...
    def asked_pid(self) -> None: ...
    def seeded(self, numbers: random.Random) -> None: ...
    def imported(self, name: str) -> None: ...
    def warned(self) -> None: ...
    def filtered(self, item: tuple[Any, ...], *, append: bool) -> None: ...
    def loads(self, spec: Any, load: Callable[[Any], Any]) -> Any: ...


class _Environ(os._Environ):  # type: ignore[type-arg] # noqa: SLF001
    """An `os.environ` that reports each read and write."""

    listener: "Listener | None" = None

    def __getitem__(self, key: Any) -> Any:
        try:
            value = super().__getitem__(key)
        except KeyError:
            self._report("read", key, None)
            raise
        self._report("read", key, value)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._report("write", key, value)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._report("write", key, None)

    def __iter__(self) -> Iterator[Any]:
        if self.listener is not None:
            self.listener.read_all()
        return super().__iter__()

    def __len__(self) -> int:
        if self.listener is not None:
            self.listener.read_all()
        return super().__len__()

    def _report(self, what: str, key: Any, value: Any) -> None:
        if self.listener is not None:
            with contextlib.suppress(TypeError):
                name = os.fsdecode(key)
                text = None if value is None else os.fsdecode(value)
                if what == "read":
                    self.listener.read(name, text)
                else:
                    self.listener.did(what, name, text)


class Hooks:
    """The replaced functions, installed during one import."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._originals: list[tuple[Any, str, Any]] = []
        self._wrapped: dict[int, Any] = {}  # id of a replacement -> its original

    def __enter__(self) -> "Hooks":  # noqa: PYI034 - 3.10 has no Self
        tell = self._listener
        self._imports()
        self._environ()
        for name in ("getpid", "getppid"):
            self._before(os, name, tell.asked_pid)
        for name in ("getcwd", "getcwdb"):
            self._before(os, name, tell.asked_cwd)
        for holder in (builtins, io):
            self._opens(holder)
        for holder, name in ((os, "urandom"), (random, "_urandom")):
            self._result(holder, name, tell.drew)
        self._after(codecs, "register", lambda search: tell.did("codec", search))
        self._after(codecs, "register_error", lambda *names: tell.did("codec errors", *names))
        self._seeds()
        self._exits()
        self._warnings()
        self._logging()
        return self

    def __exit__(self, *_: object) -> None:
        for holder, name, original in reversed(self._originals):
            setattr(holder, name, original)
        self._originals.clear()

    def unwrap(self, module: Any) -> None:
        """Put the originals back into a module that has imported replacements."""
        attributes = getattr(module, "__dict__", None)
        if isinstance(module, ModuleType) and attributes is not None:
            for name, value in list(attributes.items()):
                if id(value) in self._wrapped and getattr(value, "__wrapped__", None) is not None:
                    attributes[name] = self._wrapped[id(value)]

    def _replace(self, holder: Any, name: str, new: Any) -> None:
        original = getattr(holder, name)
        self._originals.append((holder, name, original))
        self._wrapped[id(new)] = original
        setattr(holder, name, new)

    def _before(self, holder: Any, name: str, tell: Callable[[], None]) -> None:
        """Report each call of a function before it runs."""
        original = getattr(holder, name)
        hooks = self

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if hooks._originals:
                # Otherwise the import has ended, and a module has stored the replacement.
                tell()
            return original(*args, **kwargs)

        self._replace(holder, name, wrapped)

    def _opens(self, holder: Any) -> None:
        """Report the path of each file that is opened."""
        original, tell = holder.open, self._listener
        hooks = self

        @functools.wraps(original)
        def wrapped(file: Any, *args: Any, **kwargs: Any) -> Any:
            if hooks._originals and not isinstance(file, int):
                with contextlib.suppress(TypeError, ValueError):
                    tell.opened(os.fsdecode(file))
            return original(file, *args, **kwargs)

        self._replace(holder, "open", wrapped)

    def _result(self, holder: Any, name: str, tell: Callable[[Any], None]) -> None:
        """Report a function's results."""
        original = getattr(holder, name)
        hooks = self

        @functools.wraps(original)
        def wrapped(*args: Any) -> Any:
            result = original(*args)
            if hooks._originals:
                tell(result)
            return result

        self._replace(holder, name, wrapped)

    def _after(self, holder: Any, name: str, tell: Callable[..., None]) -> None:
        """Report a function's arguments after each call."""
        original = getattr(holder, name)
        hooks = self

        @functools.wraps(original)
        def wrapped(*args: Any) -> Any:
            result = original(*args)
            if hooks._originals:
                tell(*args)
            return result

        self._replace(holder, name, wrapped)

    def _imports(self) -> None:
        original, load, tell = builtins.__import__, _bootstrap._load_unlocked, self._listener  # noqa: SLF001
        import_by_name = _bootstrap._gcd_import  # noqa: SLF001
        hooks = self

        @functools.wraps(original)
        def importing(
            name: str,
            globals: Any = None,  # noqa: A002 - the names of `__import__`
            locals: Any = None,  # noqa: A002
            fromlist: Any = (),
            level: int = 0,
        ) -> Any:
            module = original(name, globals, locals, fromlist, level)
            if hooks._originals:
                for module_name in _names(name, globals, fromlist, level):
                    tell.imported(module_name)
            return module

        @functools.wraps(import_by_name)
        def importing_by_name(name: str, package: Any = None, level: int = 0) -> Any:
            module = import_by_name(name, package, level)
            if hooks._originals:
                tell.imported(_bootstrap._resolve_name(name, package, level) if level else name)  # noqa: SLF001
            return module

        @functools.wraps(load)
        def loading(spec: Any) -> Any:
            return tell.loads(spec, load)

        self._replace(builtins, "__import__", importing)
        self._replace(_bootstrap, "_gcd_import", importing_by_name)
        self._replace(_bootstrap, "_load_unlocked", loading)

    def _environ(self) -> None:
        for environ in (os.environ, getattr(os, "environb", None)):
            if environ is not None:
                self._originals.append((environ, "__class__", type(environ)))
                environ.__class__ = _Environ
        self._originals.append((_Environ, "listener", None))
        _Environ.listener = self._listener

    def _seeds(self) -> None:
        original, tell = random.Random.seed, self._listener

        @functools.wraps(original)
        def seed(numbers: random.Random, a: Any = None, version: int = 2) -> None:
            original(numbers, a, version)
            if a is None:
                tell.seeded(numbers)

        self._replace(random.Random, "seed", seed)

    def _exits(self) -> None:
        tell, original = self._listener, cast("Any", atexit.register)

        @functools.wraps(original)
        def register(function: Any, *args: Any, **kwargs: Any) -> Any:
            tell.did("exit", function, args, kwargs)
            return function

        self._replace(atexit, "register", register)
        self._before(
            atexit, "unregister", functools.partial(tell.spoil, "it takes back an exit function")
        )

    def _warnings(self) -> None:
        add, warn, tell, hooks = warnings._add_filter, warnings.warn, self._listener, self  # type: ignore[attr-defined] # noqa: SLF001
        filters_of_process = warnings.filters

        @functools.wraps(add)
        def adding(*item: Any, append: bool) -> None:
            add(*item, append=append)
            if warnings.filters is filters_of_process:
                # Otherwise the filters belong to a `catch_warnings`.
                tell.filtered(item, append=append)

        @functools.wraps(warn)
        def warning(
            message: Any,
            category: Any = None,
            stacklevel: int = 1,
            *positional: Any,
            **keywords: Any,
        ) -> None:
            if hooks._originals:
                tell.warned()
            warn(message, category, stacklevel + 1, *positional, **keywords)

        self._replace(warnings, "_add_filter", adding)
        self._replace(warnings, "warn", warning)

    def _logging(self) -> None:
        original, tell = logging.Manager.getLogger, self._listener

        @functools.wraps(original)
        def get(manager: logging.Manager, name: str) -> logging.Logger:
            existed = isinstance(manager.loggerDict.get(name), logging.Logger)
            logger = original(manager, name)
            if not existed:
                tell.did("logger", name, logger)
            return logger

        self._replace(logging.Manager, "getLogger", get)


def _names(name: str, namespace: Any, fromlist: Any, level: int) -> Iterator[str]:
    """Yield the modules that an import statement names."""
    if level:
        package = _bootstrap._calc___package__(namespace or {})  # noqa: SLF001
        name = _bootstrap._resolve_name(name, package, level)  # noqa: SLF001
    yield name
    module = sys.modules.get(name)
    words = list(fromlist or ())
    if "*" in words:
        words += [word for word in getattr(module, "__all__", ()) if isinstance(word, str)]
    for word in words:
        if f"{name}.{word}" in sys.modules:
            yield f"{name}.{word}"
