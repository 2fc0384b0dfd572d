"""`app.run()` and `app.deploy()` without a server: what they refuse. tests/journeys/test_python.py has the rest."""

import importlib
import sys
import textwrap

import pytest

import homeport as modal
from homeport.contract.errors import ScriptError
from homeport.sdk import context, exception, values
from homeport.sdk.declare import inline

SCRIPT = """
    import homeport as modal

    app = modal.App("shop")

    @app.function()
    def price(x):
        return x
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import a user's module from a directory of its own."""
    before = set(sys.modules)

    def load(name: str, text: str = SCRIPT, directory: str = "one"):
        path = tmp_path / directory / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(tmp_path / directory)
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_modules_app_is_declared_as_the_command_declares_it(load):
    module = load("goods.shop")
    declared = inline.declare(module.app, "other")

    (spec,) = declared.manifest.functions
    assert ("other", "goods.shop", "price") == (declared.name, spec.module, spec.qualname)
    assert ["goods/shop.py"] == [file.path for file in declared.manifest.files]


def test_functions_of_two_directories_and_without_a_file_are_refused(load):
    one, two = load("first"), load("second", directory="two")
    one.app.functions["other"] = two.price
    with pytest.raises(ScriptError, match="modules of two directories: `first`"):
        inline.declare(one.app)
    module = type(sys)("typed")
    sys.modules["typed"] = module
    with pytest.raises(ScriptError, match="not in a file"):
        inline.home("typed")


def test_an_error_in_the_arguments_is_raised_before_a_server_is_started(load, monkeypatch):
    app = load("third").app
    with pytest.raises(exception.InvalidError, match="must be 'rolling' or 'recreate', not 'x'"):
        app.deploy(strategy="x")
    with pytest.raises(exception.InvalidError, match="supply a deployment name"):
        modal.App().deploy()
    with pytest.raises(exception.InvalidError, match="a name of letters, digits"):
        app.deploy(environment_name="a b")
    with pytest.raises(exception.UnimplementedError, match="interactive"):
        app.run(interactive=True)
    monkeypatch.setenv("MODAL_IS_REMOTE", "1")
    with pytest.raises(exception.InvalidError, match="within a container"):
        app.run().__enter__()
    with pytest.raises(exception.InvalidError, match="within a container"):
        app.deploy()


def test_a_function_outside_a_run_says_how_to_run_it(load):
    price = load("fourth").price

    with pytest.raises(exception.ExecutionError, match=r"inside `with app.run\(\):` or by"):
        price.remote(1)
    assert 1 == price.local(1)


def test_an_app_that_runs_is_not_started_again(load, monkeypatch):
    app = load("fifth").app
    monkeypatch.setattr(context, "_reach", context.Reach(socket="/x", app="fifth"))

    with pytest.raises(exception.InvalidError, match="already running and can't be started again"):
        app.run().__enter__()


def test_objects_of_main_are_pickled_by_the_name_that_containers_know(load, monkeypatch):
    script = load("sixth", "class Item:\n    pass\n\ndef twice(x):\n    return 2 * x\n")
    main = sys.modules["__main__"]
    for name in ("Item", "twice"):
        value = getattr(script, name)
        monkeypatch.setattr(value, "__module__", "__main__")
        monkeypatch.setattr(main, name, value, raising=False)
    monkeypatch.setattr(values, "_main", "sixth")

    sent = values.dumps([script.Item(), script.twice])
    item, twice = values.loads(sent)

    assert script.Item is type(item)
    assert script.twice is twice
    assert b"__main__" not in sent
