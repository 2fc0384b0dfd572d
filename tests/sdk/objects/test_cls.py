"""A class of `@app.cls()`, used in the user's own process: parameters, hooks and methods."""

import modal
import pytest
from modal.exception import ExecutionError, InvalidError

from homeport.sdk.objects.parameters import parameters_of


def declare(raw: type, **options):
    """Decorate a class as a script does, where it is at the top level."""
    raw.__qualname__ = raw.__name__
    return modal.App("x").cls(**options)(raw)


def declared():
    """Declare a class that records which of its parts run, in which order."""

    class Model:
        size: int = modal.parameter(default=1)
        name: str = modal.parameter()

        @modal.enter()
        def load(self):
            self.ran = [*getattr(self, "ran", []), "load"]

        @modal.enter(snap=True)
        def read(self):
            self.ran = [*getattr(self, "ran", []), "read"]

        @modal.method()
        def ask(self, what):
            return what, self.size, self.name, self.ran

        @modal.fastapi_endpoint()
        def web(self):
            return self.ask.local("x") if hasattr(self.ask, "local") else "web"

        def plain(self):
            return getattr(self, "ran", "no hook has run")

    return declare(Model, enable_memory_snapshot=True)


def test_a_method_runs_after_all_hooks_which_run_once():
    model = declared()(name="a")

    assert ("q", 1, "a", ["read", "load"]) == model.ask.local("q")
    assert ["read", "load"] == model.ask.local("again")[3]


def test_a_plain_method_or_attribute_is_the_instances_own_and_runs_no_hook():
    model = declared()(name="a", size=3)

    assert "no hook has run" == model.plain()
    assert (3, "a") == (model.size, model.name)
    assert isinstance(model.ask, modal.Function)
    assert isinstance(model.web, modal.Function)
    assert not isinstance(model.load, modal.Function)  # a hook is called by nobody but homeport


def test_two_objects_have_nothing_in_common():
    model = declared()
    one, two = model(name="a"), model(name="b", size=2)
    one.ask.local("x")

    assert (1, "a") == (one.size, one.name)
    assert (2, "b") == (two.size, two.name)
    assert "no hook has run" == two.plain()


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"name": "a", "size": "1"}, TypeError, "Expected int, got str"),
        ({"name": "a", "size": True}, TypeError, "Expected int, got bool"),
        ({"size": 1}, InvalidError, "Missing required parameter: name"),
        ({"name": "a", "other": 1}, InvalidError, "Unknown parameter: other"),
    ],
)
def test_wrong_parameters_are_refused_when_the_instance_is_made(values, error, text):
    model = declared()(**values)
    with pytest.raises(error, match=text):
        model.plain()


def test_parameters_have_names():
    with pytest.raises(InvalidError, match="positional arguments"):
        declared()("a")


def test_a_class_without_parameters_is_called_as_it_is():
    class Old:
        def __init__(self, value=7):
            self.value = value

        def ask(self):
            return self.value

    old = declare(Old)

    assert (7, 8, 9) == (old().ask(), old(8).ask(), old(value=9).ask())


def test_a_required_parameter_of_a_plain_instance_has_no_value():
    class Model:
        name: str = modal.parameter()

    with pytest.raises(AttributeError, match="no default value and no specified value"):
        _ = Model().name


def test_an_inherited_member_of_a_class_counts_until_it_is_replaced():
    class Base:
        first: int = modal.parameter(default=1)

        @modal.enter()
        def begin(self):
            self.ran = ["base"]

        @modal.method()
        def ask(self):
            return self.ran

        @modal.method()
        def gone(self):
            return 1

    class Model(Base):
        second: str = modal.parameter(default="b")

        @modal.enter()
        def further(self):
            self.ran.append("own")

        def gone(self):
            return "plain"

    model = declare(Model)(first=5)

    assert (5, "b") == (model.first, model.second)
    assert ["base", "own"] == model.ask.local()
    assert "plain" == model.gone()


def test_async_hooks_run_where_no_event_loop_does():
    class Model:
        @modal.enter()
        async def load(self):
            self.loaded = True

        @modal.method()
        def ask(self):
            return self.loaded

    assert declare(Model)().ask.local()


async def test_async_hooks_cannot_run_inside_an_event_loop():
    class Model:
        @modal.enter()
        async def load(self):
            raise AssertionError("it ran")

        @modal.method()
        def ask(self):
            return 1

    with pytest.raises(ExecutionError, match="an event loop is running already"):
        declare(Model)().ask.local()


def test_a_method_needs_an_instance():
    with pytest.raises(AttributeError, match=r"Write `MyClass\(\)\.ask\.remote`"):
        _ = declared().ask.remote


def test_the_annotations_of_a_class_may_name_what_is_not_there():
    class Model:
        size: int = modal.parameter(default=1)
        other: "Nowhere"  # noqa: F821 - what only a type checker imports

    assert 1 == declare(Model)().size


def test_a_parameter_without_a_default_must_be_given():
    Model = declared()

    with pytest.raises((TypeError, InvalidError), match="name"):
        Model(size=2).ask.local("q")
    assert 1 == Model(name="a").size


def test_a_decorator_above_the_class_of_an_app_is_refused_with_that_apps_decorator():
    with pytest.raises(InvalidError, match=r"@app\.cls\(\)"):
        modal.concurrent(max_inputs=2)(declared())


def test_parameters_have_their_types_beside_an_annotation_that_names_nothing_here():
    class Model:
        size: "int" = modal.parameter(default=1)  # as `from __future__ import annotations` does
        name: str = modal.parameter()
        tensor: "torch.Tensor"  # noqa: F821 - imported in the container only

    assert {"size": int, "name": str} == {
        name: kind for name, (kind, _) in parameters_of(Model).items()
    }
    Model.__annotations__["size"] = "float"
    with pytest.raises(InvalidError, match="float is not a supported"):
        parameters_of(Model)
