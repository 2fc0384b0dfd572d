"""Effects of an import are repeated in a process that gets the module without importing it."""

import atexit
import copyreg
import logging
import os
import uuid
import warnings
import weakref

import pytest

from homeport.sdk.preload import repeats


def made(name: str) -> logging.Logger:
    """Make a logger as another process has made it."""
    return logging.Logger(name)  # noqa: LOG001


def test_a_variable_is_written_or_removed(monkeypatch):
    monkeypatch.setenv("ZZ_GONE", "1")
    repeats.repeat("write", ("ZZ_NEW", "2"))
    repeats.repeat("write", ("ZZ_GONE", None))
    repeats.repeat("write", ("ZZ_NEVER", None))  # no error
    repeats.repeat("read", ("ZZ_NEW",))  # nothing to repeat

    assert ("2", None) == (os.environ.pop("ZZ_NEW"), os.environ.get("ZZ_GONE"))


def test_a_filter_of_warnings_is_added_where_it_was():
    with warnings.catch_warnings():
        first = ("ignore", None, UserWarning, None, 1)
        last = ("error", None, DeprecationWarning, None, 2)
        repeats.repeat("filter", (first, False))
        repeats.repeat("filter", (last, True))

        assert (first, last) == (warnings.filters[0], warnings.filters[-1])


@pytest.fixture
def names():
    """Loggers `zz…`, which are forgotten after the test."""
    known = logging.Logger.manager.loggerDict
    yield known
    for name in [name for name in known if name.startswith("zz")]:
        del known[name]


def test_a_logger_takes_its_place_among_those_that_the_script_has_made(names):
    above, below = logging.getLogger("zz"), logging.getLogger("zz.a.b")
    handed = made("zz.a")
    repeats.repeat("logger", ("zz.a", handed))

    assert handed is logging.getLogger("zz.a")
    assert (above, handed) == (handed.parent, below.parent)


def test_two_loggers_of_one_name_become_one(names):
    mine, handed = logging.getLogger("zz"), made("zz")
    handler = logging.NullHandler()
    handed.addHandler(handler)
    repeats.repeat("logger", ("zz", handed))
    mine.setLevel(logging.ERROR)

    assert mine is logging.getLogger("zz")
    assert [handler] == mine.handlers == handed.handlers
    assert logging.ERROR == handed.level
    repeats.repeat("logger", ("zz", mine))  # it is there already
    assert [handler] == mine.handlers


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        (lambda logger: None, True),
        (lambda logger: logger.addHandler(logging.NullHandler()), True),
        (lambda logger: logger.addHandler(logging.StreamHandler()), False),
        (lambda logger: logger.setLevel("INFO"), False),
        (lambda logger: setattr(logger, "propagate", False), False),
        (lambda logger: setattr(logger, "disabled", True), False),
        (lambda logger: logger.addFilter(lambda _record: True), False),
    ],
)
def test_a_logger_is_plain_while_nobody_has_changed_it(change, plain):
    logger = made("zz")
    change(logger)

    assert plain is repeats.is_plain(logger)


def test_functions_for_the_end_are_registered_and_that_of_all_finalizers_once(monkeypatch):
    registered = []
    monkeypatch.setattr(
        atexit, "register", lambda *given, **named: registered.append((given, named))
    )
    monkeypatch.setattr(weakref.finalize, "_registered_with_atexit", False)
    repeats.repeat("exit", (print, ("bye",), {"end": ""}))
    for _ in range(2):
        repeats.repeat("exit", (weakref.finalize._exitfunc, (), {}))

    assert [((print, "bye"), {"end": ""}), ((weakref.finalize._exitfunc,), {})] == registered


def test_other_effects_are_those_of_the_call_itself(monkeypatch):
    class Mine:
        pass

    class Generator:
        state = "fresh"

    monkeypatch.setattr(copyreg, "dispatch_table", {})
    items, table, used = [], {}, Generator()
    used.state = "used"
    repeats.repeat("pickling", (Mine, str))
    repeats.repeat("append", (items, 1, None))
    repeats.repeat("item", (table, "a", 2))
    repeats.repeat("patch", (table, "b", 3))
    repeats.repeat("class", (Mine, "new", 4))
    repeats.repeat("generator", (used,))

    assert ({Mine: str}, [1], {"a": 2, "b": 3}) == (copyreg.dispatch_table, items, table)
    assert (4, "fresh") == (Mine.new, used.state)


def test_random_numbers_begin_anew_in_each_process(monkeypatch):
    from multiprocessing import process

    seeded = []
    module = type("numpy.random", (), {"seed": lambda: seeded.append(True)})
    cuda = type("cuda", (), {"manual_seed_all": seeded.append})
    generator = type("generator", (), {"seed": lambda: 7})
    torch = type("torch", (), {"default_generator": generator, "cuda": cuda})
    monkeypatch.setattr(uuid, "_last_timestamp", 7)
    monkeypatch.setattr(process, "ORIGINAL_DIR", "elsewhere")
    key = process.current_process().authkey
    repeats.reseed("numpy.random", module)
    repeats.reseed("torch", torch)
    repeats.reseed("uuid", uuid)
    repeats.reseed("multiprocessing.process", process)
    repeats.repeat("seed", (module,))

    assert [True, 7, True] == seeded  # what CUDA draws follows the new seed
    assert uuid._last_timestamp is None
    assert os.getcwd() == process.ORIGINAL_DIR
    assert key != process.current_process().authkey
    process.current_process().authkey = key
