"""What `homeport run` runs in a script."""

import itertools
import textwrap

import pytest

from homeport.contract.errors import ScriptError
from homeport.sdk.declare import run, runnable, script

NUMBERS = itertools.count()
APP = 'import modal\napp = modal.App("x")\n'
FUNCTION = "@app.function()\ndef f():\n    pass\n"
OTHER = "@app.function()\ndef other():\n    pass\n"
MAIN = "@app.local_entrypoint()\ndef main():\n    pass\n"
WEB = "@app.function()\n@modal.fastapi_endpoint()\ndef web():\n    pass\n"
GENERATOR = "@app.function()\ndef many():\n    yield 1\n"
CLASS = (
    "@app.cls()\nclass C:\n    @modal.method()\n    def m(self): pass\n"
    "    @modal.fastapi_endpoint()\n    def w(self): pass\n"
)
TWO = CLASS + "    @modal.method()\n    def n(self): pass\n"


@pytest.fixture
def chosen(tmp_path):
    """Load a script and choose; return the name of what is run."""

    def chosen(*parts: str, name: str = "") -> str:
        path = tmp_path / f"runnable_{next(NUMBERS)}.py"
        path.write_text(textwrap.dedent("".join((APP, *parts))))
        module, _ = script.load(str(path), is_module=False)
        found = runnable.choose(module, name, "s.py")
        assert callable(found.raw)
        assert found.app is module.app
        return found.name

    return chosen


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ((FUNCTION,), "f"),
        ((FUNCTION, WEB), "f"),
        ((FUNCTION, OTHER, MAIN), "main"),
        ((CLASS,), "C.m"),
        ((FUNCTION, OTHER, MAIN, "del main\n", "del f\n"), "other"),
        ((FUNCTION, OTHER, MAIN, "del main, f, other\n"), "app.main"),
        ((FUNCTION, "del f\n"), "app.f"),
        ((FUNCTION, 'g = modal.Function.from_name("a", "g")\n'), "f"),
    ],
)
def test_without_a_name_the_only_one_of_the_best_level_is_run(chosen, parts, name):
    assert chosen(*parts) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("f", "f"),
        ("main", "main"),
        ("app.f", "app.f"),
        ("app.main", "app.main"),
        ("app", "app.main"),
        ("C.m", "C.m"),
        ("C", "C.m"),
        ("app.C.m", "app.C.m"),
    ],
)
def test_a_name_is_a_variable_or_what_an_app_has(chosen, given, name):
    assert chosen(FUNCTION, MAIN, CLASS, name=given) == name


def test_a_name_that_is_given_by_a_decorator_is_found_without_its_app(chosen):
    named = MAIN.replace("entrypoint()", 'entrypoint(name="begin")')

    assert chosen(named, "del main\n", name="begin") == "begin"


@pytest.mark.parametrize(
    ("parts", "name", "told", "hint"),
    [
        ((FUNCTION, OTHER), "", "there are 2 things to run", "`s.py::f` or `s.py::other`"),
        ((WEB,), "", "there is nothing to run in `s.py`", "@app.local_entrypoint()"),
        ((WEB,), "web", "`web` is a web function", "`homeport serve s.py`"),
        ((CLASS,), "C.w", "`C.w` is a web function", "`homeport deploy s.py`"),
        ((CLASS,), "C.x", "has no `@modal.method()` with the name `x`", "`s.py::C.m`"),
        ((TWO,), "C", "`C` names no method", "`s.py::C.m`, `s.py::C.n`"),
        ((FUNCTION, MAIN), "mian", "there is no `mian`", "did you mean `s.py::main`?"),
        ((FUNCTION, "x = 1\n"), "x", "`x` is neither", "name one: `s.py::f`"),
        ((FUNCTION,), "f.g", "there is no `f.g`", ""),
        ((GENERATOR,), "", "`many` is a generator", "`.remote_gen()`"),
    ],
)
def test_a_name_that_cannot_be_run_is_refused_with_those_that_can(chosen, parts, name, told, hint):
    with pytest.raises(ScriptError) as raised:
        chosen(*parts, name=name)

    assert told in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("file", "result", "why"),
    [
        ("out", 3, "must return str or bytes"),
        ("out", "\ud800", "surrogates not allowed"),
        ("none/out", "x", "No such file"),
    ],
)
def test_a_result_that_cannot_be_written_is_an_error_that_says_why(tmp_path, file, result, why):
    with pytest.raises(ScriptError, match=why):
        run._write(tmp_path / file, result)
