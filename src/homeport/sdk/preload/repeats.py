"""Repeats the effects of an import when its module is handed over (shelf.py)."""

import atexit
import codecs
import copyreg
import logging
import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

#: `reseed` knows what to do with them.
RESEEDED = ("multiprocessing.process", "numpy.random", "torch", "uuid")


def repeat(what: str, args: tuple[Any, ...]) -> None:
    """Repeat one effect that an import had on the process."""
    if what != "read":
        _REPEATS[what](*args)


def reseed(name: str, module: Any) -> None:
    """Seed a module's random numbers again, in a forked process."""
    if name == "numpy.random":
        module.seed()
    elif name == "torch":
        # Not `torch.seed()`, which imports `torch.cuda`: this may be the hand-over of torch itself.
        seed = module.default_generator.seed()
        if (cuda := getattr(module, "cuda", None)) is not None:
            cuda.manual_seed_all(seed)  # done when CUDA begins
    elif name == "uuid":
        module._last_timestamp = None  # noqa: SLF001 - two clocks, one MAC
    elif name == "multiprocessing.process":
        module.current_process().authkey = os.urandom(32)
        module.ORIGINAL_DIR = os.getcwd()  # noqa: PTH109 - the directory of the script's own import


def is_plain(logger: logging.Logger) -> bool:
    """Return whether a logger is as `getLogger` makes it, except for handlers that do nothing."""
    quiet = all(type(handler) is logging.NullHandler for handler in logger.handlers)
    usual = logger.level == logging.NOTSET and logger.propagate and not logger.disabled
    return quiet and usual and not logger.filters


def environ() -> dict[str, str]:
    """Return the environment variables without a report to the hooks."""
    seen: Any = os.environ
    return {seen.decodekey(k): seen.decodevalue(v) for k, v in seen._data.items()}  # noqa: SLF001


def _repeat_write(name: str, value: str | None) -> None:
    plain: Any = os._Environ  # noqa: SLF001 - os.environ may be watched
    if value is None:
        if name in environ():
            plain.__delitem__(os.environ, name)
    else:
        plain.__setitem__(os.environ, name, value)


def _repeat_filter(item: tuple[Any, ...], append: bool) -> None:
    _add_filter(*item, append=append)


def _repeat_logger(name: str, logger: logging.Logger) -> None:
    manager: Any = logging.Logger.manager
    own_logger = manager.loggerDict.get(name)
    if isinstance(own_logger, logging.Logger):
        if own_logger is not logger:
            # The script has made a logger of this name before the module: merge both into one.
            for handler in logger.handlers:
                own_logger.addHandler(handler)
            logger.__class__ = own_logger.__class__
            logger.__dict__ = own_logger.__dict__
        return
    manager.loggerDict[name] = logger
    if own_logger is not None:
        manager._fixupChildren(own_logger, logger)  # noqa: SLF001
    manager._fixupParents(logger)  # noqa: SLF001
    manager._clear_cache()  # noqa: SLF001


def _repeat_pickling(cls: Any, function: Any) -> None:
    copyreg.dispatch_table[cls] = function


def _repeat_exit(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if function == weakref.finalize._exitfunc:  # type: ignore[attr-defined] # noqa: SLF001 - one for all of them
        if weakref.finalize._registered_with_atexit:  # type: ignore[attr-defined] # noqa: SLF001
            return
        weakref.finalize._registered_with_atexit = True  # type: ignore[attr-defined] # noqa: SLF001
    atexit.register(function, *args, **kwargs)


def _repeat_seed(numbers: Any) -> None:
    numbers.seed()


def _repeat_append(items: list[Any], item: Any, _: Any) -> None:
    items.append(item)


def _repeat_generator(bits: Any) -> None:
    bits.state = type(bits)().state


_add_filter: Any = warnings._add_filter  # type: ignore[attr-defined] # noqa: SLF001 - hooks.py replaces it

_REPEATS: dict[str, Callable[..., None]] = {
    "write": _repeat_write,
    "filter": _repeat_filter,
    "logger": _repeat_logger,
    "pickling": _repeat_pickling,
    "exit": _repeat_exit,
    "seed": _repeat_seed,
    "generator": _repeat_generator,
    "patch": dict.__setitem__,
    "item": dict.__setitem__,
    "class": setattr,
    "append": _repeat_append,
    "codec": codecs.register,
    "codec errors": codecs.register_error,
}
