"""Makes options of the command line from a function's signature, as `homeport run` takes them.

    def main(count: int = 3, dry_run: bool = False)   --count 5 --dry-run
    def main(*words)                                   all words as they are

Types: `str`, `int`, `float`, `bool` (`--x` and `--no-x`), `datetime.datetime`, `Any`, `Optional` of one of them, and
`Literal` of texts or of whole numbers. A parameter without a default is an option that must be given. Without an
annotation, the type is that of the default.
"""

import argparse
import datetime as dt
import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any

#: As Modal's command line reads them; the last one is what `isoformat()` writes with microseconds.
DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f")


class Arguments:
    """The options of one function, and of its class."""

    def __init__(self, program: str, function: Any, *, cls: Any = None) -> None:
        """`program` begins the usage; `cls` is the `Cls` whose method the function is, or None."""
        self._parser = argparse.ArgumentParser(
            prog=program,
            description=inspect.getdoc(function),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        signature = inspect.signature(function)
        self._parameters = list(signature.parameters.values())[1 if cls is not None else 0 :]
        self._of_class = dict(cls.parameters) if cls is not None else {}
        self._is_raw = False
        hints = _hints(function)
        for name, (kind, field) in self._of_class.items():
            default = inspect.Parameter.empty if _is_missing(field) else field.default
            self._add(name, kind, default, "a parameter of the class")
        for parameter in self._parameters:
            self._declare(parameter, hints.get(parameter.name, parameter.annotation))

    def _declare(self, parameter: inspect.Parameter, hint: Any) -> None:
        if parameter.kind is parameter.VAR_POSITIONAL:
            if len(self._parameters) > 1 or self._of_class:
                self._parser.error(
                    f"a function with `*{parameter.name}` takes all words, so it can have no other parameter"
                )
            self._is_raw = True
        elif parameter.kind is parameter.VAR_KEYWORD:
            self._parser.error(f"`**{parameter.name}` cannot be given on the command line")
        elif parameter.name in self._of_class:
            self._parser.error(f"both the class and the method have a parameter `{parameter.name}`")
        else:
            if hint is parameter.empty and parameter.default is not parameter.empty:
                hint = type(parameter.default)
                hint = hint if hint in _TYPES else Any
            self._add(parameter.name, hint, parameter.default, "")

    def _add(self, name: str, hint: Any, default: Any, about: str) -> None:
        option = f"--{name.replace('_', '-')}"
        settings: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        if default is inspect.Parameter.empty:
            settings["required"] = True
            note = "required"
        else:
            note = f"default: {default}"
        settings["help"] = (f"{about}; {note}" if about else note).replace("%", "%%")
        hint = _inner(hint)
        if hint is bool:
            self._parser.add_argument(option, action=argparse.BooleanOptionalAction, **settings)
        elif (choices := _choices(hint)) is not None:
            kind = type(choices[0])
            self._parser.add_argument(option, type=kind, choices=choices, **settings)
        elif hint in _TYPES:
            self._parser.add_argument(option, type=_TYPES[hint], metavar=_metavar(hint), **settings)
        else:
            shown = hint.__name__ if isinstance(hint, type) else str(hint)
            self._parser.error(
                f"the parameter `{name}` has the annotation `{shown}`, for which there is no option. Use str, "
                "int, float, bool, datetime.datetime, a Literal, or Optional with one of them"
            )

    def read(self, words: Sequence[str]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        """Return positional arguments, keyword arguments, and parameters of the class.

        Raises `SystemExit`, as argparse does, after it has printed the help (0) or what is wrong (2).
        """
        if self._is_raw and list(words) != ["--help"]:
            return list(words), {}, {}
        values = vars(self._parser.parse_args(list(words)))
        of_class = {name: values.pop(name) for name in self._of_class if name in values}
        positional = [
            values.pop(parameter.name, parameter.default)
            for parameter in self._parameters
            if parameter.kind is parameter.POSITIONAL_ONLY
        ]
        return positional, values, of_class


def _date(text: str) -> dt.datetime:
    for form in DATES:
        try:
            return dt.datetime.strptime(text, form)  # noqa: DTZ007 - as the user has written it
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(
        f"'{text}' is not a date such as 2026-01-31 or 2026-01-31T12:00:00"
    )


_TYPES: dict[Any, Any] = {
    str: str,
    int: int,
    float: float,
    bool: bool,
    dt.datetime: _date,
    Any: str,
    inspect.Parameter.empty: str,
}


def _metavar(hint: Any) -> str:
    names = {int: "NUMBER", float: "NUMBER", dt.datetime: "DATE"}
    return names.get(hint, "TEXT")


def _inner(hint: Any) -> Any:
    """Return `X` for `Optional[X]` and `X | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [member for member in typing.get_args(hint) if member is not type(None)]
        return inner[0] if len(inner) == 1 else hint
    return hint


def _choices(hint: Any) -> tuple[Any, ...] | None:
    """Return the values of a `Literal` that are all texts or all whole numbers, else None."""
    if typing.get_origin(hint) is not typing.Literal:
        return None
    values = typing.get_args(hint)
    kinds = {type(value) for value in values}
    return values if kinds in ({str}, {int}) else None


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation that cannot be resolved is an error when its option is made
        return {}


def _is_missing(field: Any) -> bool:
    from homeport.sdk.objects.parameters import has_default

    return not has_default(field)
