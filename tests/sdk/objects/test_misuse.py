"""Each mistake is an error at its line, with the text that the behaviour spec gives."""

import warnings

import pytest

import homeport as modal
from homeport.sdk.exception import (
    DeprecationError,
    ExecutionError,
    InvalidError,
    LocalFunctionError,
    UnimplementedError,
)
from homeport.sdk.objects import image_options

app = modal.App("misuse")


def plain():
    return 1


async def coroutine():
    return 1


def generator():
    yield 1


def with_parameter(x=1):
    return x


class Plain:
    pass


WEB = ["fastapi_endpoint", "asgi_app", "wsgi_app"]


@pytest.mark.parametrize("name", [*WEB, "enter", "exit", "method", "concurrent"])
def test_forgotten_parentheses_are_suggested(name):
    with pytest.raises(InvalidError, match="Did you forget parentheses") as caught:
        getattr(modal, name)(plain)

    assert f"Suggestion: `@modal.{name}()`" in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: modal.fastapi_endpoint("GET"), '`@modal.fastapi_endpoint(method="GET")`'),
        (lambda: modal.asgi_app("x"), '`@modal.asgi_app(label="x")`'),
        (lambda: app.function(modal.Image.debian_slim()), "`@app.function(image=image)`"),
        (lambda: app.function(plain), "Suggestion: `@app.function()`"),
        (lambda: app.cls(Plain), "Suggestion: `@app.cls()`"),
        (lambda: app.local_entrypoint(plain), "Suggestion: `@app.local_entrypoint()`"),
        (lambda: modal.web_server("8000"), "must be a local port, such as `@web_server(8000)`"),
        (lambda: modal.web_server(0), "must be a local port"),
        (lambda: modal.web_server(65536), "must be a local port"),
        (lambda: modal.web_server(port=True), "must be a local port"),
        (lambda: modal.web_server(80, startup_timeout=0), "must be positive"),
        (lambda: modal.web_server(80, startup_timeout=-0.5), "must be positive"),
        (lambda: modal.fastapi_endpoint(method="FETCH"), "is not an HTTP method"),
        (lambda: modal.fastapi_endpoint(label="Not A Label"), "cannot be part of a URL"),
        (lambda: modal.asgi_app(label="123"), "cannot be part of a URL"),
        (lambda: modal.concurrent(max_inputs=0), "from 1 to 1000"),
        (lambda: modal.concurrent(max_inputs=1001), "from 1 to 1000"),
        (lambda: modal.concurrent(max_inputs=2, target_inputs=3), "cannot be greater"),
        (lambda: modal.batched(max_batch_size=0, wait_ms=1), "must be a positive integer"),
        (lambda: modal.batched(max_batch_size=1001, wait_ms=1), "greater than 1000"),
        (lambda: modal.batched(max_batch_size=1, wait_ms=-1), "non-negative"),
        (lambda: modal.batched(max_batch_size=1, wait_ms=0.5), "must be integers"),
        (lambda: app.function(timeout=None), "`timeout` parameter cannot be set to None"),
        (lambda: app.function(min_containers=1.5), "must be an int, not float"),
        (lambda: app.function(min_containers=3, max_containers=2), "(3) cannot be greater than"),
        (lambda: app.function(scaledown_window=1), "between 2 and 3600"),
        (lambda: app.function(scaledown_window=3601), "between 2 and 3600"),
        (lambda: app.function(scaledown_window="60"), "number of seconds, not '60'"),
        (lambda: app.function(memory=float("inf")), "must be a number or a pair of numbers"),
        (lambda: app.function(gpu=1), '`gpu` must be a string such as "H100", not 1'),
        (lambda: app.function(gpu="H100:x"), "Invalid GPU count: x"),
        (lambda: app.function(env={"A": 1}), "has to be a dict[str, Union[str, None]]"),
        (lambda: app.function(image="debian"), "has to be a `modal.Image` object"),
        (lambda: app.function(retries="3"), "must be an integer or instance of modal.Retries"),
        (lambda: app.function(ephemeral_disk="512"), "`ephemeral_disk` must be an int, not str"),
        (lambda: app.function(name=3), "`name` must be text, not 3"),
        (lambda: app.function(is_generator="no"), "must be True or False, not 'no'"),
        (lambda: app.function(max_inputs=2), "Only `max_inputs=1` is currently supported"),
        (lambda: modal.App(1), "Must be string"),
        (lambda: modal.App("x", tags={"a b": "c"}), "Invalid tag key: 'a b'."),
        (lambda: modal.App("x", secrets=["s"]), "list or tuple of `modal.Secret` objects"),
        (lambda: modal.App("x", volumes={"/x": 1}), "mounted at '/x' is not usable as a volume"),
        (lambda: modal.App("x", volumes={"x": modal.Volume()}), "canonical, absolute path"),
        (lambda: modal.App("x", volumes={"/": modal.Volume()}), "into root directory"),
        (lambda: modal.App("x", volumes={"/tmp": modal.Volume()}), "cannot be mounted at '/tmp'"),
        (lambda: modal.Secret.from_dict({"A": 1}), "has to be a dict[str, Union[str, None]]"),
        (lambda: modal.Secret.from_name("a b"), "Invalid Secret name"),
        (
            lambda: modal.Secret.from_name("a", required_keys="A"),
            "must be a list of texts, not 'A'",
        ),
        (lambda: modal.Retries(max_retries=-1), "must be non-negative"),
        (lambda: modal.Image.debian_slim().add_local_file("pyproject.toml", "x"), "absolute"),
        (lambda: modal.Image.debian_slim().pip_install(1), "strings or lists of strings"),
        (lambda: modal.Image.debian_slim().run_function(lambda: 1), "at the top of its module"),
        (lambda: modal.Image.debian_slim().run_function(plain, args=(app,)), "travel as JSON"),
        (
            lambda: modal.Image.debian_slim().pip_install("x", secrets=["s"]),
            "`modal.Secret` objects",
        ),
        (lambda: modal.Image.debian_slim().uv_sync("nowhere"), "cannot be read"),
        (lambda: modal.Function.from_name("a", "B.c"), "use `modal.Cls.from_name` instead"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_at_once(call, text):
    with pytest.raises(InvalidError) as caught:
        call()

    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["asgi_app", "wsgi_app"])
def test_a_factory_is_sync_and_takes_nothing(name):
    with pytest.raises(InvalidError, match="can't be applied to an async function"):
        getattr(modal, name)()(coroutine)
    with pytest.raises(InvalidError, match="can't have parameters"):
        getattr(modal, name)()(with_parameter)


@pytest.mark.parametrize("name", WEB)
def test_web_decorators_go_under_app_function_and_never_on_classes(name):
    function = app.function(name=f"under-{name}")(plain)
    with pytest.raises(InvalidError, match="swap the order of the decorators"):
        getattr(modal, name)()(function)
    with pytest.raises(InvalidError, match="consider applying to a method instead"):
        getattr(modal, name)()(Plain)
    with pytest.raises(InvalidError, match="Webhooks cannot be generators"):
        app.function()(getattr(modal, name)()(generator))


@pytest.mark.parametrize("value", [modal.Secret.from_dict({}), modal.Volume(), modal.App()])
def test_an_object_has_no_attribute_of_any_name(value):
    with pytest.raises(AttributeError):
        value.nothing_of_the_kind


def test_options_that_exclude_each_other_are_refused():
    with pytest.raises(InvalidError, match="Cannot set `webhook_config` twice"):
        modal.asgi_app()(modal.wsgi_app()(plain))
    with pytest.raises(InvalidError, match="Cannot set `is_generator` twice"):
        modal.method()(modal.method()(plain))
    with pytest.raises(InvalidError, match="Cannot set `max_concurrent_inputs` twice"):
        modal.concurrent(max_inputs=2)(modal.concurrent(max_inputs=2)(plain))
    with pytest.raises(InvalidError, match="cannot be combined with lifecycle"):
        modal.enter()(modal.asgi_app()(plain))
    with pytest.raises(InvalidError, match="cannot be combined with web interface"):
        modal.method()(modal.asgi_app()(plain))
    with pytest.raises(InvalidError, match="must be callable"):
        modal.method()(1)
    with pytest.raises(TypeError, match="cannot be used on a class"):
        app.function()(Plain)
    with pytest.raises(TypeError, match="must be used on a class"):
        app.cls()(plain)
    with pytest.raises(InvalidError, match="Web Functions do not support retries"):
        app.function(retries=1)(modal.asgi_app()(plain))
    with pytest.raises(InvalidError, match="Generator Functions do not support retries"):
        app.function(retries=1)(generator)
    with pytest.raises(TypeError, match="missing required argument"):
        app.function()(modal.concurrent(target_inputs=2)(plain))


def test_a_local_function_cannot_be_found_in_a_container():
    def local():
        return 1

    with pytest.raises(InvalidError, match="must apply to functions in global scope"):
        app.function()(local)
    with pytest.raises(LocalFunctionError):
        app.function()(modal.asgi_app()(local))
    with pytest.raises(InvalidError, match="cannot be used on class methods"):

        class Inner:
            method = app.function()(modal.method()(plain))


class WithInit:
    def __init__(self, size):
        self.size = size


class WithBoth:
    size: int = modal.parameter()

    def __init__(self):
        pass


class Unannotated:
    size = modal.parameter()


class Fractional:
    size: float = modal.parameter()


class ConcurrentMethod:
    @modal.concurrent(max_inputs=2)
    @modal.method()
    def a(self):
        pass


class Snap:
    @modal.enter(snap=True)
    def a(self):
        pass


class Generating:
    @modal.fastapi_endpoint()
    def a(self):
        yield 1


class TwoBatched:
    @modal.batched(max_batch_size=2, wait_ms=1)
    def a(self, x):
        pass

    @modal.batched(max_batch_size=2, wait_ms=1)
    def b(self, x):
        pass


class TwoPrograms:
    @modal.web_server(8000)
    def a(self):
        pass

    @modal.web_server(8000)
    def b(self):
        pass


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (WithInit, "cannot have a custom constructor"),
        (WithBoth, "can't have both a custom __init__ constructor"),
        (Unannotated, "need to be type-annotated"),
        (Fractional, "float is not a supported modal.parameter() type"),
        (ConcurrentMethod, "decorate the class instead"),
        (Snap, "must have `enable_memory_snapshot=True`"),
        (Generating, "Webhooks cannot be generators"),
        (TwoBatched, "can only have one batched function"),
        (TwoPrograms, "two `web_server`s have port 8000"),
    ],
)
def test_a_class_that_cannot_be_served_says_why(cls, text):
    with pytest.raises(InvalidError) as caught:
        app.cls()(cls)

    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("keep_warm", "min_containers"),
        ("concurrency_limit", "max_containers"),
        ("container_idle_timeout", "scaledown_window"),
    ],
)
def test_a_renamed_parameter_names_its_new_name(old, new):
    with pytest.raises(DeprecationError, match=f"has been renamed to '{new}'"):
        app.function(**{old: 1})


def test_a_removed_decorator_names_its_successor():
    with pytest.raises(DeprecationError, match="fastapi_endpoint"):
        modal.web_endpoint()
    with pytest.raises(DeprecationError, match=r"modal\.App"):
        modal.Stub


def test_a_misspelt_parameter_is_an_error_that_names_the_nearest():
    with pytest.raises(TypeError, match="min_containers"):
        app.function(min_container=1)
    with pytest.raises(TypeError, match="schedule"):
        app.cls(schedule=1)


@pytest.mark.parametrize("step", image_options.OF_STEP)
def test_a_misspelt_keyword_of_an_image_step_is_an_error_that_names_the_nearest(step):
    near = next(name for name in image_options.OF_STEP[step].__annotations__ if len(name) > 4)
    image = modal.Image.debian_slim()

    with pytest.raises(InvalidError, match=f"`Image.{step}` got .* Did you mean `{near}`?"):
        image.with_step(step, {f"{near}s": "x"})
    with pytest.raises(InvalidError, match="unexpected keyword argument `force_biuld`"):
        image.pip_install("x", force_biuld=True)


def test_an_object_without_a_server_says_so_at_use_and_not_at_import():
    function = app.function(name="remote")(plain)
    assert modal.Dict.from_name("d")
    with pytest.raises(ExecutionError, match="not been hydrated"):
        function.spawn()
    with pytest.raises(ExecutionError, match="not been hydrated"):
        function.remote()
    with pytest.raises(UnimplementedError, match="not there yet"):
        modal.Sandbox.create("x")
    with pytest.raises(TypeError, match="not callable"):
        function()
    assert 1 == function.local()


def test_a_web_function_is_reached_by_its_url_alone():
    function = app.function(name="web")(modal.asgi_app()(plain))
    with pytest.raises(InvalidError, match="webhook") as caught:
        function.remote()

    assert ".local()" in str(caught.value)


def test_two_functions_of_one_name_are_warned_of():
    first = modal.App("twice")
    first.function(name="same")(plain)
    with pytest.warns(UserWarning, match="collision"):
        first.function(name="same")(with_parameter)


def test_imports_of_an_image_forgive_what_is_missing_here():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with modal.Image.debian_slim().imports():
            import nowhere_to_be_found  # noqa: F401


@pytest.mark.parametrize("region", [1, {"us"}, ["us", 1], [""], object()])
def test_a_value_that_is_no_region_is_refused(region):
    with pytest.raises(InvalidError, match='must be a string such as "us"'):
        app.function(region=region)(plain)


def test_a_port_may_have_less_than_a_second_to_open():
    assert modal.web_server(8000, startup_timeout=0.5)
