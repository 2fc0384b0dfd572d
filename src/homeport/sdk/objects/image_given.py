"""Prepares the arguments, secrets and volumes of an image's steps, and functions with their arguments."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from homeport.contract.image import Step
from homeport.contract.manifest import VolumeMount
from homeport.sdk.exception import InvalidError
from homeport.sdk.files import local
from homeport.sdk.objects import image_options
from homeport.sdk.objects.mounts import mounts
from homeport.sdk.objects.secret import Secret

#: Steps that add files when a container starts, unless `copy=True`.
MOUNTS = frozenset({"add_local_file", "add_local_dir", "add_local_python_source"})
#: Steps that build nothing, so that they may follow a mount.
CONFIG = frozenset({"env", "workdir", "entrypoint", "shell", "cmd"}) | MOUNTS
#: Each of these variables, as 1, builds every step again.
FORCE = ("MODAL_FORCE_BUILD", "HOMEPORT_FORCE_BUILD")
#: Options of Modal that say where an image is built; here it is always built on this machine.
IGNORED = frozenset(
    {"gpu", "network_file_systems", "cpu", "memory", "cloud", "region", "include_source"}
    | {"uv_version", "old_installer"}
)


def check_order(step: str, before: Sequence[Step]) -> None:
    """Raise `InvalidError` for a step that builds something after files that are only mounted."""
    if step in CONFIG:
        return
    mounted = next((s for s in before if s.name in MOUNTS and not s.args.get("copy")), None)
    if mounted is not None:
        raise InvalidError(
            f"`{step}` comes after `{mounted.name}`, whose files are only there when a container "
            f"starts: move `{mounted.name}` to the end, or give it `copy=True`."
        )


def arguments(step: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's arguments as the manifest has them, without the empty ones."""
    forced = step not in CONFIG and any(os.environ.get(name) == "1" for name in FORCE)
    return {
        name: image_options.jsonable(value)
        for name, value in {**args, **({"force_build": True} if forced else {})}.items()
        if name not in IGNORED and value not in (None, (), [], {}, False)
    }


def secrets(step: str, args: dict[str, Any]) -> tuple[Secret, ...]:
    """Take the secrets out of a step's arguments."""
    listed = [args.pop("secret", None), *(args.pop("secrets", None) or ())]
    secrets_found = tuple(secret for secret in listed if secret is not None)
    if not all(isinstance(secret, Secret) for secret in secrets_found):
        raise InvalidError(f"`{step}`: `secrets` takes a list of `modal.Secret` objects")
    return secrets_found


def volumes(step: str, args: dict[str, Any]) -> tuple[VolumeMount, ...]:
    """Take the volumes out of a step's arguments."""
    mounted = mounts(args.pop("volumes", None) or {})
    if sub := next((mount for mount in mounted if mount.sub_path), None):
        raise InvalidError(f"`{step}`: the volume at {sub.path} is mounted whole, or not at all")
    return mounted


def positions(earlier: Sequence[object], new: Sequence[object]) -> list[int]:
    """Return the positions of `new`, after those of earlier steps."""
    return list(range(len(earlier), len(earlier) + len(new)))


def function(
    raw: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments of a `run_function` step; `InvalidError` for a function that a build cannot call."""
    raw = getattr(raw, "raw", raw)  # decorated with `@app.function()`
    if not callable(raw):
        raise InvalidError("`run_function` takes a function")
    if "<" in raw.__qualname__:
        raise InvalidError(
            f"`run_function` needs a function at the top of its module, "
            f"and `{raw.__qualname__}` is not"
        )
    call = {"args": list(args), "kwargs": dict(kwargs or {})}
    try:
        json.dumps(call)
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"the arguments of `run_function` travel as JSON, and these cannot: {error}"
        ) from None
    named = {"module": raw.__module__, "qualname": raw.__qualname__}
    return {**named, "source_sha256": local.source_sha256(raw), **call}
