"""Makes the contract's manifest of an `App`."""

import platform
from collections.abc import Iterable
from typing import Any

from homeport.contract import manifest as contract
from homeport.contract import names, validate
from homeport.contract.errors import ScriptError
from homeport.contract.image import Image as ImageSpec
from homeport.sdk import notices
from homeport.sdk.objects import options as keywords
from homeport.sdk.objects.app import App
from homeport.sdk.objects.cls import Cls
from homeport.sdk.objects.function import Function
from homeport.sdk.objects.image import Image
from homeport.sdk.objects.mounts import mounts
from homeport.sdk.objects.parameters import PARAMETER_TYPES, has_default
from homeport.sdk.objects.partial import PartialFunction, ServerConfig
from homeport.sdk.objects.secret import Secret, checked


def build(
    app: App,
    name: str,
    script: str,
    files: tuple[contract.SourceFile, ...],
    build_files: tuple[contract.SourceFile, ...] = (),
) -> contract.Manifest:
    """Return the manifest of an app."""
    # An included function takes its defaults from the app that declared it.
    functions = [_function(function.app, function) for function in app.functions.values()]
    functions += [
        _class(cls.app, cls)
        for cls in app.classes.values()
        if cls.interfaces() or cls.server_config
    ]
    manifest = contract.Manifest(
        app_name=name,
        functions=tuple(functions),
        files=files,
        build_files=build_files,
        tags=app.tags,
        script=script,
        python_version=platform.python_version(),
    )
    validate.check(manifest)  # the server makes the same check
    return manifest


def image_of(app: App, options: dict[str, Any]) -> ImageSpec:
    """Return the function's image, else the app's, else an image without steps."""
    image = _image(app, options)
    return image.spec if image is not None else ImageSpec()


def _image(app: App, options: dict[str, Any]) -> Image | None:
    image: Image | None = options["image"] or app.image
    return image


def _function(app: App, function: Function) -> contract.FunctionSpec:
    partial = function.partial
    return contract.FunctionSpec(
        name=function.tag,
        module=partial.raw.__module__,
        qualname=_attribute(partial, function),
        web=(_web(partial, function.tag, partial.name),) if partial.web else (),
        calls=() if partial.web else (_call(partial, function.tag, partial.name),),
        schedule=None if partial.web else keywords.schedule(function.options["schedule"]),
        **_common(app, function.options, partial, partial.where, _batch_size([partial])),
    )


def _class(app: App, cls: Cls) -> contract.FunctionSpec:
    name, config = cls.__name__, cls.server_config
    return contract.FunctionSpec(
        name=f"{name}.*",
        module=cls.__module__,
        qualname=cls.__qualname__,
        is_class=True,
        web=(_server(cls, config),)
        if config
        else tuple(
            _web(partial, f"{name}.{attribute}", attribute)
            for attribute, partial in cls.web_methods().items()
        ),
        calls=tuple(
            _call(partial, f"{name}.{attribute}", attribute)
            for attribute, partial in cls.methods().items()
        ),
        parameters=tuple(
            contract.Parameter(
                name=key,
                type=PARAMETER_TYPES[kind],
                required=not has_default(field),
                default=field.default if has_default(field) else None,
            )
            for key, (kind, field) in cls.parameters.items()
        ),
        **{
            **_common(
                app, cls.options, cls.concurrent, cls.where, _batch_size(cls.methods().values())
            ),
            **(_of_server(cls, config) if config else _of_program(cls)),
        },
    )


def _server(cls: Cls, config: ServerConfig) -> contract.WebMethod:
    return contract.WebMethod(
        tag=cls.__name__,
        attribute=cls.raw.__name__,
        kind=contract.WebKind.SERVER,
        port=config.port,
        startup_timeout_s=config.startup_timeout,
        requires_proxy_auth=config.requires_proxy_auth,
        where=cls.where,
    )


def _of_program(cls: Cls) -> dict[str, Any]:
    """Return the fields that differ from other classes if the hooks may start the program of a `web_server`."""
    methods = cls.web_methods().values()
    has_port = any(partial.web is not None and partial.web.port for partial in methods)
    if not has_port or not cls.hooks("enter_pre_snapshot"):
        return {}
    _say_no_snapshot(cls, "has a `web_server`")
    return {"enable_memory_snapshot": False}


def _say_no_snapshot(cls: Cls, what: str) -> None:
    notices.say(
        f"`{cls.__name__}` {what}, and a memory snapshot cannot hold its program: "
        "`enter(snap=True)` runs in each container"
    )


def _of_server(cls: Cls, config: ServerConfig) -> dict[str, Any]:
    """Return the fields that differ from other classes: requests have no limits unless the script has set one."""
    if cls.options["enable_memory_snapshot"]:
        _say_no_snapshot(cls, "is a server")
    start = cls.options["startup_timeout"]
    start = max(float(cls.options["timeout"] if start is None else start), 1.0)
    return {
        "max_inputs": (cls.concurrent.max_inputs if cls.concurrent else None) or names.MAX_INPUTS,
        "timeout_s": validate.TIMEOUT_S[1],
        "startup_timeout_s": min(start + config.startup_timeout, validate.TIMEOUT_S[1]),
        "exit_grace_s": config.exit_grace_period,
        "enable_memory_snapshot": False,
    }


def _web(partial: PartialFunction, tag: str, attribute: str) -> contract.WebMethod:
    web = partial.web
    assert web is not None
    return contract.WebMethod(
        tag=tag,
        attribute=attribute,
        kind=contract.WebKind(web.kind),
        label=web.label,
        http_method=web.method,
        docs=web.docs,
        port=web.port,
        startup_timeout_s=web.startup_timeout,
        requires_proxy_auth=web.requires_proxy_auth,
        custom_domains=web.custom_domains,
        where=partial.where,
    )


def _call(partial: PartialFunction, tag: str, attribute: str) -> contract.CallMethod:
    return contract.CallMethod(
        tag=tag,
        attribute=attribute,
        generator=partial.generates,
        batch=contract.Batch(size=partial.batch[0], wait_ms=partial.batch[1])
        if partial.batch
        else None,
        where=partial.where,
    )


def _batch_size(partials: Iterable[PartialFunction]) -> int:
    return max((partial.batch[0] for partial in partials if partial.batch), default=1)


def _common(
    app: App,
    options: dict[str, Any],
    partial: PartialFunction | None,
    where: str,
    batch_size: int = 1,
) -> dict[str, Any]:
    timeout = max(float(options["timeout"]), 1.0)
    startup = options["startup_timeout"]
    secrets = [*app.secrets, *options["secrets"]]
    if options["env"]:
        secrets.append(Secret(values=checked(options["env"])))
    image = _image(app, options)
    inputs = (partial.max_inputs if partial else None) or 1
    return {
        "image": image_of(app, options),
        "secrets": tuple(secret.ref for secret in secrets),
        "build_secrets": tuple(secret.ref for secret in image.build_secrets) if image else (),
        "build_volumes": image.build_volumes if image else (),
        "volumes": mounts({**app.volumes, **options["volumes"]}),
        "min_containers": options["min_containers"] or 0,
        "max_containers": options["max_containers"],
        "buffer_containers": options["buffer_containers"] or 0,
        "scaledown_window_s": float(options["scaledown_window"] or 60),
        # A container takes a whole batch at once.
        "max_inputs": min(inputs * batch_size, names.MAX_INPUTS),
        "target_inputs": min(partial.target_inputs * batch_size, names.MAX_INPUTS)
        if partial and partial.target_inputs
        else None,
        "single_use": bool(options["single_use_containers"]),
        "timeout_s": timeout,
        "startup_timeout_s": max(float(startup), 1.0) if startup is not None else timeout,
        "cpu": keywords.pair(options["cpu"], float, "cpu"),
        "memory_mib": keywords.pair(options["memory"], int, "memory"),
        "ephemeral_disk_mib": options["ephemeral_disk"],
        "gpu": keywords.gpus(options["gpu"]),
        "region": keywords.regions(options["region"]),
        "retries": keywords.retries(options["retries"]),
        "enable_memory_snapshot": bool(options["enable_memory_snapshot"]),
        "block_network": bool(options["block_network"]),
        "restrict_modal_access": bool(options["restrict_modal_access"]),
        "where": where,
    }


def _attribute(partial: PartialFunction, function: Function) -> str:
    """Return the name by which the container finds the function in its module."""
    import sys

    module = sys.modules.get(partial.raw.__module__)
    for name, value in vars(module).items() if module else ():
        if value is function:
            return name
    if getattr(partial.raw, "__name__", "<lambda>") == "<lambda>":
        raise ScriptError("a lambda cannot be a function of an app", where=partial.where)
    return str(partial.raw.__qualname__)
