"""Names that Modal had once, and what a script writes instead today.

An old script gets an error that says what to write, and never a bare AttributeError.
"""

from typing import Any

from homeport.sdk.exception import DeprecationError


class GoneError(DeprecationError, AttributeError):
    """A name that Modal has removed; `hasattr` answers False."""


#: Of the module `modal`.
MODULE = {
    "Stub": "use `modal.App` instead",
    "Mount": "use `Image.add_local_file`, `add_local_dir` or `add_local_python_source` instead",
    "build": "use `Image.run_function` instead, or load into a Volume under `@modal.enter()`",
    "SharedVolume": "use `modal.Volume` instead",
    "create_package_mounts": "use `Image.add_local_python_source` instead",
    "create_package_mount": "use `Image.add_local_python_source` instead",
    "lookup": "use `modal.Function.from_name` instead",
    "container_app": "declare what it gave by `modal.Secret` and `modal.Volume` instead",
    "is_local_dev": "use `modal.is_local` instead",
    "asgi": "use `modal.asgi_app` instead",
    "wsgi": "use `modal.wsgi_app` instead",
}
#: Of classes: (class, name).
ATTRIBUTES = {
    ("Image", "copy"): "use `add_local_dir(…, copy=True)` instead",
    ("Image", "copy_local_file"): "use `add_local_file(…, copy=True)` instead",
    ("Image", "copy_local_dir"): "use `add_local_dir(…, copy=True)` instead",
    ("Image", "copy_mount"): "use `add_local_dir(…, copy=True)` instead",
    ("Image", "conda"): "use `Image.micromamba` instead",
    ("Image", "conda_install"): "use `micromamba_install` instead",
    ("Image", "conda_update_from_environment"): "use `micromamba_install(spec_file=…)` instead",
    ("Image", "from_dockerhub"): "use `Image.from_registry` instead",
    ("Image", "from_aws_ecr_public"): "use `Image.from_registry` instead",
    ("Image", "pip_install_from_dockerfile"): "use `Image.from_dockerfile` instead",
    ("Image", "extend"): "use the image's own steps instead",
    ("Image", "run_inside"): "use `with image.imports():` instead",
    ("Volume", "persisted"): "use `Volume.from_name(name, create_if_missing=True)` instead",
    ("Volume", "new"): "use `Volume.from_name(name, create_if_missing=True)` instead",
    ("Dict", "new"): "use `Dict.from_name(name, create_if_missing=True)` instead",
    ("Dict", "persisted"): "use `Dict.from_name(name, create_if_missing=True)` instead",
    ("Queue", "new"): "use `Queue.from_name(name, create_if_missing=True)` instead",
    ("Queue", "persisted"): "use `Queue.from_name(name, create_if_missing=True)` instead",
    ("NetworkFileSystem", "persisted"): "use `modal.Volume.from_name` instead",
    ("NetworkFileSystem", "new"): "use `modal.Volume.from_name` instead",
    ("Function", "lookup"): "use `Function.from_name` instead",
    ("Function", "web_url"): "use `Function.get_web_url()` instead",
    ("Function", "call"): "use `Function.remote` instead",
    ("Function", "is_generator"): "use `inspect` on the function instead",
    ("Cls", "lookup"): "use `Cls.from_name` instead",
    ("App", "is_inside"): "use `with image.imports():` instead",
    ("App", "web_endpoint"): "use `@modal.fastapi_endpoint` under `@app.function` instead",
    ("App", "asgi"): "use `@modal.asgi_app` under `@app.function` instead",
    ("App", "wsgi"): "use `@modal.wsgi_app` under `@app.function` instead",
    ("App", "webhook"): "use `@modal.fastapi_endpoint` under `@app.function` instead",
}


class Old(type):
    """The metaclass of a class with old names: each raises `GoneError`, which says what to write instead."""

    def __getattr__(cls, name: str) -> Any:
        for kind in cls.__mro__:
            if instead := ATTRIBUTES.get((kind.__name__, name)):
                raise GoneError(f"`modal.{cls.__name__}.{name}` is gone: {instead}.")
        raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")


def on_instance(value: Any, name: str) -> None:
    """Raise `GoneError` as `Old` does, for the `__getattr__` of such a class; return if Modal never had the name."""
    for kind in type(value).__mro__:
        if instead := ATTRIBUTES.get((kind.__name__, name)):
            raise GoneError(f"`{kind.__name__}.{name}` is gone: {instead}.")


def of_module(name: str) -> None:
    """Raise `DeprecationError` for an old name of the module; return for any other.

    It is not an AttributeError, because `from modal import Stub` would turn that into an ImportError without its text.
    """
    if instead := MODULE.get(name):
        raise DeprecationError(f"`modal.{name}` is gone: {instead}.")
