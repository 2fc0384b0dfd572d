"""What a step of an image is given besides its arguments: secrets, volumes, a function with its arguments."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from homeport.contract.manifest import VolumeMount
from homeport.sdk.exception import InvalidError
from homeport.sdk.files import local
from homeport.sdk.objects.mounts import mounts
from homeport.sdk.objects.secret import Secret


def secrets(step: str, args: dict[str, Any]) -> tuple[Secret, ...]:
    """Take the secrets out of a step's arguments."""
    given = [args.pop("secret", None), *(args.pop("secrets", None) or ())]
    found = tuple(secret for secret in given if secret is not None)
    if not all(isinstance(secret, Secret) for secret in found):
        raise InvalidError(f"`{step}`: `secrets` takes a list of `modal.Secret` objects")
    return found


def volumes(step: str, args: dict[str, Any]) -> tuple[VolumeMount, ...]:
    """Take the volumes out of a step's arguments."""
    found = mounts(args.pop("volumes", None) or {})
    if sub := next((mount for mount in found if mount.sub_path), None):
        raise InvalidError(f"`{step}`: the volume at {sub.path} is mounted whole, or not at all")
    return found


def positions(known: Sequence[object], new: Sequence[object]) -> list[int]:
    """Return where `new` will be, after what earlier steps were given."""
    return list(range(len(known), len(known) + len(new)))


def function(
    raw: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments of a `run_function` step; `InvalidError` for what no build can call."""
    raw = getattr(raw, "raw", raw)  # decorated with `@app.function()`
    if not callable(raw):
        raise InvalidError("`run_function` takes a function")
    if "<" in raw.__qualname__:
        raise InvalidError(
            f"`run_function` needs a function at the top of its module, "
            f"and `{raw.__qualname__}` is not"
        )
    given = {"args": list(args), "kwargs": dict(kwargs or {})}
    try:
        json.dumps(given)
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"the arguments of `run_function` travel as JSON, and these cannot: {error}"
        ) from None
    named = {"module": raw.__module__, "qualname": raw.__qualname__}
    return {**named, "source_sha256": local.source_sha256(raw), **given}
