"""The options of a variant (contract/variants.py), and the request by which the server makes it."""

import dataclasses
import urllib.parse
from typing import Any

from homeport.contract.manifest import Batch
from homeport.contract.variants import Options
from homeport.sdk.exception import InvalidError
from homeport.sdk.objects import lifecycle
from homeport.sdk.objects import options as keywords
from homeport.sdk.objects.exchange import Ask, Steps
from homeport.sdk.objects.mounts import mounts
from homeport.sdk.objects.secret import Secret, checked
from homeport.sdk.objects.target import Target

_made: set[str] = set()  # the endpoints that this process has asked for


def with_options(before: "Options | None", options: "dict[str, Any]") -> Options:
    """Return the options with these keywords of `with_options`; None is no change."""
    options = {name: value for name, value in options.items() if value is not None}
    keywords.read("function", options)
    fresh: dict[str, Any] = {
        name: options[name] for name in ("max_containers", "buffer_containers") if name in options
    }
    for name, field, value in (
        ("cpu", "cpu", lambda: keywords.pair(options["cpu"], float, "cpu")),
        ("memory", "memory_mib", lambda: keywords.pair(options["memory"], int, "memory")),
        ("gpu", "gpu", lambda: keywords.gpus(options["gpu"])),
        ("region", "region", lambda: keywords.regions(options["region"])),
        ("retries", "retries", lambda: keywords.retries(options["retries"])),
        ("scaledown_window", "scaledown_window_s", lambda: float(options["scaledown_window"])),
        ("timeout", "timeout_s", lambda: max(float(options["timeout"]), 1.0)),
    ):
        if name in options:
            fresh[field] = value()
    secrets = list(options.get("secrets", ()))
    if options.get("env"):
        secrets.append(Secret(values=checked(options["env"])))
    if secrets:
        # The line of the script is left out: equal options are one variant, wherever they are written.
        fresh["secrets"] = tuple(dataclasses.replace(secret.ref, where="") for secret in secrets)
    if options.get("volumes"):
        mounted = mounts(options["volumes"])
        fresh["volumes"] = tuple(dataclasses.replace(mount, where="") for mount in mounted)
    return dataclasses.replace(before or Options(), **fresh)


def with_concurrency(
    before: "Options | None", max_inputs: Any, target_inputs: Any = None
) -> Options:
    """Return the options with so many concurrent inputs."""
    lifecycle.check_concurrency(max_inputs, target_inputs)
    return dataclasses.replace(
        before or Options(), max_inputs=max_inputs, target_inputs=target_inputs
    )


def with_batching(before: "Options | None", max_batch_size: Any, wait_ms: Any) -> Options:
    """Return the options with batches."""
    lifecycle.check_batching(max_batch_size, wait_ms)
    return dataclasses.replace(
        before or Options(), batch=Batch(size=max_batch_size, wait_ms=wait_ms)
    )


def is_made(target: Target) -> bool:
    """Return whether this process has asked for the target's variant, if it has one."""
    return not target.variant or target.endpoint in _made


def forget(target: Target) -> None:
    """Forget a variant, because the server does not know it any more: it was idle, or there was a deploy."""
    _made.discard(target.endpoint)


def make(target: Target) -> Steps[None]:
    """Ask the server for the target's variant."""
    if target.options is None:
        return
    query = {
        name: value
        for name, value in (("session", target.scope), ("version", target.version))
        if value
    }
    path = f"{urllib.parse.quote(target.tag, safe='')}/variants"
    if query:
        path += f"?{urllib.parse.urlencode(query)}"
    yield Ask(
        "functions",
        target.app,
        path,
        body=target.options.body,
        content_type="application/json",
        environment=target.environment,
    )
    if target.options.digest != target.variant:
        raise InvalidError("the options have changed since they were given")
    _made.add(target.endpoint)
