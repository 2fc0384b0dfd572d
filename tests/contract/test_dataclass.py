import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from dataclasses import field
from typing import ClassVar

import pytest

from homeport.contract import dataclass as late

OPTIONS = [
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"frozen": True, "slots": True, "order": True},
    {"eq": False},
    {"repr": False, "kw_only": True},
]


class Fields:
    """Fields of each kind."""

    name: str
    size: int = 3
    parts: list[str] = field(default_factory=list, compare=False)
    secret: str = field(default="s", repr=False)
    state: str = field(default="new", init=False)
    made: list[str] = field(default_factory=list, init=False, compare=False)
    KIND: ClassVar[str] = "k"


class Checked:
    """It looks at its fields once it has them."""

    low: int
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")

    def __repr__(self) -> str:
        return "its own"

    def __hash__(self) -> int:
        return 7


def both(options, body=Fields):
    """The class of the standard library, and ours."""
    return [
        make(**options)(type(body.__name__, (), dict(vars(body)) | {"__qualname__": "Same"}))
        for make in (dataclasses.dataclass, late.dataclass)
    ]


def seen(cls, does):
    """What a call comes to: its value, or its error."""
    try:
        return does(cls)
    except Exception as error:
        return type(error), str(error)


def change(cls):
    made = cls(name="a")
    made.size = 4
    return made.size


def adds(made):
    try:
        made.colour = "red"
    except (AttributeError, TypeError):  # TypeError: of Python 3.11, for a frozen class with slots
        return False
    return True


def remove(cls):
    made = cls(name="a")
    del made.size
    return hasattr(made, "size")


CALLS = {
    "values": lambda cls: dataclasses.asdict(cls(name="a", size=1)),
    "positional": lambda cls: dataclasses.asdict(cls("a", 1)),
    "missing": lambda cls: cls(),
    "unknown": lambda cls: cls(name="a", state="x"),
    "own list": lambda cls: cls(name="a").parts is cls(name="a").parts,
    "text": lambda cls: repr(cls(name="a"))[:30] if cls.__repr__ is not object.__repr__ else "",
    "equal": lambda cls: (cls(name="a") == cls(name="a"), cls(name="a") == cls(name="b")),
    "not compared": lambda cls: cls(name="a", parts=["x"]) == cls(name="a"),
    "another type": lambda cls: cls(name="a") == "a",
    "hash": lambda cls: hash(cls(name="a")) == hash(cls(name="a", parts=["x"])),
    "order": lambda cls: (cls(name="a") < cls(name="b"), cls(name="a") >= cls(name="b")),
    "change": change,
    "remove": remove,
    "another attribute": lambda cls: adds(cls(name="a")),
    "replace": lambda cls: dataclasses.asdict(dataclasses.replace(cls(name="a"), size=8)),
    "copy": lambda cls: dataclasses.asdict(copy.deepcopy(cls(name="a", parts=["x"]))),
    "match": lambda cls: cls.__match_args__,
    "parameters": lambda cls: list(inspect.signature(cls).parameters),
    "fields": lambda cls: [each.name for each in dataclasses.fields(cls)],
    "slots": lambda cls: hasattr(cls(name="a"), "__dict__"),
}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_class_does_what_the_standard_librarys_does(options):
    theirs, ours = both(options)

    for name, does in CALLS.items():
        assert seen(theirs, does) == seen(ours, does), name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_methods_of_the_class_itself_stay(options):
    if "order" in options:
        return
    theirs, ours = both(options, Checked)

    for does in (
        lambda cls: cls(low=1),
        lambda cls: repr(cls(low=1)),
        lambda cls: hash(cls(low=1)),
        lambda cls: cls(low=10),
    ):
        expected, found = seen(theirs, does), seen(ours, does)
        assert str(expected) == str(found)


@late.dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """At the top of a module, so that pickle finds it."""

    name: str
    parts: tuple[str, ...] = ()


@late.dataclass(frozen=True, slots=True, kw_only=True)
class Derived(Base):
    """With one field more."""

    size: int = 0


def test_a_derived_class_has_the_fields_of_both():
    assert "Derived(name='a', parts=(), size=2)" == repr(Derived(name="a", size=2))
    assert Derived(name="a") != Base(name="a")


def test_a_frozen_class_with_slots_can_be_pickled():
    made = Derived(name="a", parts=("x",), size=2)

    assert made == pickle.loads(pickle.dumps(made))


def test_methods_are_compiled_at_the_first_use_or_all_at_once():
    code = """
import homeport.contract.manifest as manifest
from homeport.contract import dataclass
stand_ins = lambda: sum("stand_in" in str(getattr(v, "__code__", "")) for c in vars(manifest).values()
                        if isinstance(c, type) for v in vars(c).values())
many = stand_ins()
manifest.SourceFile(path="a.py", sha256="0", size_bytes=1)
one = stand_ins()
dataclass.complete()
print(many > 10, many - one, stand_ins())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ("True 1 0\n", "") == (done.stdout, done.stderr)
