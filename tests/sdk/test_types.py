"""The types for type checkers and editors exist, are right, and match the code."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import homeport
from homeport.sdk import alias
from homeport.sdk.objects import options

TYPED = Path(__file__).parent / "typed"
PACKAGE = Path(homeport.__file__).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text())


def check(path: Path, cache: Path) -> list[tuple[int, str]]:
    """Return the lines in which mypy --strict finds an error, with its messages."""
    words = ["--strict", "--config-file=", f"--cache-dir={cache}", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    errors = re.findall(r"^\w+\.py:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return [(int(line), text) for line, text in errors]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("name", ["modal", "homeport"])
def test_an_ordinary_script_has_no_error(tmp_path, cache, name):
    text = (TYPED / "good.py").read_text().replace("modal.exception", "modal.sdk.exception")
    if name == "modal":
        text = (TYPED / "good.py").read_text()
    (tmp_path / "good.py").write_text(re.sub(r"\bmodal\b", name, text))

    assert [] == check(tmp_path / "good.py", cache)


def test_each_mistake_is_found_in_its_line(tmp_path, cache):
    text = (TYPED / "bad.py").read_text()
    wrong = {n for n, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")}
    (tmp_path / "bad.py").write_text(text)
    errors = check(tmp_path / "bad.py", cache)

    assert wrong == {line for line, _ in errors}
    assert any("did you mean" in text and "memory" in text for _, text in errors)


def test_every_public_name_has_a_type():
    declared = {
        node.name for node in STUB.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    }
    for node in STUB.body:
        if isinstance(node, ast.ImportFrom):
            declared |= {name.asname for name in node.names if name.asname}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)

    exported = next(
        n for n in STUB.body if isinstance(n, ast.Assign) and "__all__" == n.targets[0].id
    )
    assert homeport.__all__ == ast.literal_eval(exported.value)
    assert {*homeport.__all__} <= declared
    assert {path.stem for path in (PACKAGE / "onpath/modal").glob("[a-z]*.py")} == {
        *alias.SUBMODULES
    }


@pytest.mark.parametrize("decorator", ["function", "cls"])
def test_the_keywords_of_a_decorator_are_those_that_it_takes(decorator):
    app = next(node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == "App")
    typed = next(n for n in app.body if isinstance(n, ast.FunctionDef) and n.name == decorator)
    defaults = {
        argument.arg: {} if ast.unparse(default) == "..." else ast.literal_eval(default)
        for argument, default in zip(typed.args.kwonlyargs, typed.args.kw_defaults, strict=True)
    }
    skipped = options.NOT_FOR_CLASSES if decorator == "cls" else frozenset()

    assert {k: v for k, v in options.DEFAULTS.items() if k not in skipped} == defaults


@pytest.mark.parametrize(
    "name",
    [
        node.name
        for node in STUB.body
        if isinstance(node, ast.FunctionDef) and node.name in homeport.__all__
    ],
)
def test_a_function_has_the_parameters_that_its_type_says(name):
    typed = next(n for n in STUB.body if isinstance(n, ast.FunctionDef) and n.name == name)
    argument_names = {argument.arg for argument in (*typed.args.args, *typed.args.kwonlyargs)}
    real = inspect.signature(getattr(homeport, name)).parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in real)

    assert takes_any or argument_names == {p.name for p in real if p.kind is not p.VAR_POSITIONAL}


def test_modal_is_homeport_outside_of_homeport_too():
    code = "import modal, modal.exception as e; print(modal.__name__, e.__name__)"
    names = subprocess.check_output([sys.executable, "-c", code], text=True)

    assert "homeport homeport.sdk.exception\n" == names


def test_modal_itself_comes_first_where_it_is_installed(tmp_path):
    (tmp_path / "modal.py").write_text("")
    code = "import modal, sys; print(modal.__file__, sys.path[-1])"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    paths = subprocess.check_output([sys.executable, "-c", code], env=environ, text=True).split()

    assert [str(tmp_path / "modal.py"), str(PACKAGE / "onpath")] == paths
