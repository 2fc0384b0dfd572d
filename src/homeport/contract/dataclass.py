"""`dataclass` of the standard library, whose methods are compiled when an object first needs them.

The standard library compiles up to eight methods for each class while its module is imported. That was a sixth of the
imports of the server and of a command, and a quarter of a container's; most classes get no object in that process.
Here `__init__`, `__eq__` and `__hash__` of a class are stand-ins until they are called; its other methods are functions
that all classes share. A process that forks calls `complete` before, so that its children compile nothing.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - a type checker sees no difference
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """Make a dataclass; the options are `frozen`, `slots`, `kw_only`, `order`, `eq` and `repr`."""
        return _made(cls, **options) if cls is not None else functools.partial(_made, **options)


Method = Callable[..., Any]


class _Signature:
    """The parameters of a class, for `inspect.signature`."""

    def __get__(self, instance: object, owner: type) -> "inspect.Signature":
        import inspect

        if instance is not None:
            raise AttributeError("__signature__")
        complete()
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


_waiting: list[Callable[[], None]] = []  # compile a method each


def complete() -> None:
    """Compile the methods of all classes that are imported."""
    while _waiting:
        _waiting.pop()()


def _made(
    cls: type,
    *,
    frozen: bool = False,
    slots: bool = False,
    kw_only: bool = False,
    order: bool = False,
    eq: bool = True,
    repr: bool = True,  # noqa: A002 - the standard library's name
) -> type:
    own = {name for name, value in vars(cls).items() if value is not None}
    if not cls.__doc__:
        cls.__doc__ = cls.__name__  # the standard library would write the signature, slowly
    decorate: Callable[[type], type] = dataclasses.dataclass(
        init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
    )
    made = decorate(cls)

    def add(name: str, value: object) -> None:
        if name not in own:
            setattr(made, name, value)

    add("__init__", _late(made, "__init__", functools.partial(_init, made, frozen)))
    add("__signature__", _Signature())
    if repr:
        add("__repr__", _repr)
    if eq:
        add("__eq__", _late(made, "__eq__", functools.partial(_comparison, made, "==")))
        if frozen:
            add("__hash__", _late(made, "__hash__", functools.partial(_hash, made)))
        else:
            add("__hash__", None)
    if order:
        for name, sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
            dunder = f"__{name}__"
            add(dunder, _late(made, dunder, functools.partial(_comparison, made, sign)))
    if frozen:
        _freeze(made)
        if slots:  # such an object cannot be unpickled or copied by assignments
            add("__getstate__", _state)
            add("__setstate__", _set_state)
    return made


def _late(made: type, name: str, compiled: Callable[[], Method]) -> Method:
    """Return a stand-in, which replaces itself by what `compiled` returns."""

    def replace() -> None:
        if vars(made).get(name) is stand_in:
            setattr(made, name, compiled())

    def stand_in(self: Any, *args: Any, **values: Any) -> Any:
        replace()
        return vars(made)[name](self, *args, **values)

    stand_in.__name__, stand_in.__qualname__ = name, f"{made.__qualname__}.{name}"
    _waiting.append(replace)
    return stand_in


def _compiled(
    made: type, name: str, parameters: str, body: list[str], names: dict[str, Any]
) -> Method:
    text = "\n ".join([f"def {name}({parameters}):", *(body or ["pass"])])
    exec(text, names)  # noqa: S102 - the text has the names of the class's fields, and nothing else
    method: Method = names[name]
    method.__qualname__, method.__module__ = f"{made.__qualname__}.{name}", made.__module__
    return method


def _init(made: type, frozen: bool) -> Method:
    names: dict[str, Any] = {"__missing": dataclasses.MISSING, "__assign": object.__setattr__}
    positional, keywords, body = ["self"], list[str](), list[str]()
    for field in dataclasses.fields(made):
        name, default = field.name, f"__default_{field.name}"
        has_factory = field.default_factory is not dataclasses.MISSING
        has_default = has_factory or field.default is not dataclasses.MISSING
        names[default] = field.default_factory if has_factory else field.default
        value = name
        if field.init:
            given = (
                f"{name}=__missing" if has_factory else f"{name}={default}" if has_default else name
            )
            (keywords if field.kw_only else positional).append(given)
            value = f"{default}() if {name} is __missing else {name}" if has_factory else name
        elif has_default:
            value = f"{default}()" if has_factory else default
        else:
            continue
        body.append(f"__assign(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    method = _compiled(made, "__init__", parameters, body, names)
    method.__annotations__ = {f.name: f.type for f in dataclasses.fields(made) if f.init}
    return method


def _comparison(made: type, sign: str) -> Method:
    names = [field.name for field in dataclasses.fields(made) if field.compare]
    mine, theirs = (_tuple(owner, names) for owner in ("self", "other"))
    body = ["if other.__class__ is self.__class__:", f"  return {mine} {sign} {theirs}"]
    name = {"==": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[sign]
    return _compiled(made, name, "self, other", [*body, "return NotImplemented"], {})


def _hash(made: type) -> Method:
    names = [
        field.name
        for field in dataclasses.fields(made)
        if (field.compare if field.hash is None else field.hash)
    ]
    return _compiled(made, "__hash__", "self", [f"return hash({_tuple('self', names)})"], {})


def _tuple(owner: str, names: list[str]) -> str:
    return "(" + "".join(f"{owner}.{name}, " for name in names) + ")"


def _repr(self: Any) -> str:
    shown = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _freeze(made: Any) -> None:
    names = frozenset(field.name for field in dataclasses.fields(made))

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(made, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(made, self).__delattr__(name)

    made.__setattr__, made.__delattr__ = __setattr__, __delattr__


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
