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
        return _make(cls, **options) if cls is not None else functools.partial(_make, **options)


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


_waiting: list[Callable[[], None]] = []  # functions that compile one method each


def complete() -> None:
    """Compile the methods of all classes that are imported."""
    while _waiting:
        _waiting.pop()()


def _make(
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
    decorated = decorate(cls)

    def add(name: str, value: object) -> None:
        if name not in own:
            setattr(decorated, name, value)

    add("__init__", _late(decorated, "__init__", functools.partial(_init, decorated, frozen)))
    add("__signature__", _Signature())
    if repr:
        add("__repr__", _repr)
    if eq:
        add("__eq__", _late(decorated, "__eq__", functools.partial(_comparison, decorated, "==")))
        if frozen:
            add("__hash__", _late(decorated, "__hash__", functools.partial(_hash, decorated)))
        else:
            add("__hash__", None)
    if order:
        for name, sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
            dunder = f"__{name}__"
            add(dunder, _late(decorated, dunder, functools.partial(_comparison, decorated, sign)))
    if frozen:
        _freeze(decorated)
        if slots:  # such an object cannot be unpickled or copied by assignments
            add("__getstate__", _state)
            add("__setstate__", _set_state)
    return decorated


def _late(owner: type, name: str, compiled: Callable[[], Method]) -> Method:
    """Return a stand-in, which replaces itself by what `compiled` returns."""

    def replace() -> None:
        if vars(owner).get(name) is stand_in:
            setattr(owner, name, compiled())

    def stand_in(self: Any, *args: Any, **values: Any) -> Any:
        replace()
        return vars(owner)[name](self, *args, **values)

    stand_in.__name__, stand_in.__qualname__ = name, f"{owner.__qualname__}.{name}"
    _waiting.append(replace)
    return stand_in


def _compiled(
    owner: type, name: str, parameters: str, body: list[str], names: dict[str, Any]
) -> Method:
    text = "\n ".join([f"def {name}({parameters}):", *(body or ["pass"])])
    exec(text, names)  # noqa: S102 - the text has the names of the class's fields, and nothing else
    method: Method = names[name]
    method.__qualname__, method.__module__ = f"{owner.__qualname__}.{name}", owner.__module__
    return method


def _init(owner: type, frozen: bool) -> Method:
    names: dict[str, Any] = {"__missing": dataclasses.MISSING, "__assign": object.__setattr__}
    positional, keywords, body = ["self"], list[str](), list[str]()
    for field in dataclasses.fields(owner):
        name, default = field.name, f"__default_{field.name}"
        has_factory = field.default_factory is not dataclasses.MISSING
        has_default = has_factory or field.default is not dataclasses.MISSING
        names[default] = field.default_factory if has_factory else field.default
        value = name
        if field.init:
            declared = (
                f"{name}=__missing" if has_factory else f"{name}={default}" if has_default else name
            )
            (keywords if field.kw_only else positional).append(declared)
            value = f"{default}() if {name} is __missing else {name}" if has_factory else name
        elif has_default:
            value = f"{default}()" if has_factory else default
        else:
            continue
        body.append(f"__assign(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(owner, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    method = _compiled(owner, "__init__", parameters, body, names)
    method.__annotations__ = {f.name: f.type for f in dataclasses.fields(owner) if f.init}
    return method


def _comparison(owner_class: type, sign: str) -> Method:
    names = [field.name for field in dataclasses.fields(owner_class) if field.compare]
    own_values, other_values = (_tuple(owner, names) for owner in ("self", "other"))
    body = ["if other.__class__ is self.__class__:", f"  return {own_values} {sign} {other_values}"]
    name = {"==": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[sign]
    return _compiled(owner_class, name, "self, other", [*body, "return NotImplemented"], {})


def _hash(owner: type) -> Method:
    names = [
        field.name
        for field in dataclasses.fields(owner)
        if (field.compare if field.hash is None else field.hash)
    ]
    return _compiled(owner, "__hash__", "self", [f"return hash({_tuple('self', names)})"], {})


def _tuple(owner: str, names: list[str]) -> str:
    return "(" + "".join(f"{owner}.{name}, " for name in names) + ")"


def _repr(self: Any) -> str:
    shown = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _freeze(owner: Any) -> None:
    names = frozenset(field.name for field in dataclasses.fields(owner))

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if type(self) is owner or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(owner, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is owner or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(owner, self).__delattr__(name)

    owner.__setattr__, owner.__delattr__ = __setattr__, __delattr__


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
