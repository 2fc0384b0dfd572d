"""The keywords of `@app.function` and `@app.cls`: checked, and turned into the contract's values."""

from collections.abc import Collection, Mapping
from typing import Any

from homeport.contract import calls, validate
from homeport.contract.schedules import Schedule
from homeport.sdk import notices
from homeport.sdk.exception import DeprecationError, InvalidError, MisuseError
from homeport.sdk.objects.image import Image
from homeport.sdk.objects.mounts import check_volumes
from homeport.sdk.objects.resources import Cron, Period, Retries
from homeport.sdk.objects.secret import Secret, checked

#: keyword -> its default; the comments are the text of docs/reference/sdk.md
DEFAULTS: dict[str, Any] = {
    "image": None,  # the packages of its containers; None: the app's image, else the packages beside homeport
    "schedule": None,  # a `Cron` or a `Period`: when a deployed function runs by itself; not for web functions
    "env": None,  # environment variables; they win over all secrets
    "secrets": None,  # a list of `Secret`; a later one wins over an earlier one
    "gpu": None,  # `"L40S"`, `"H100:2"`, or a list of them in order of preference
    "serialized": False,  # not there yet: a function must be at module level
    "network_file_systems": {},  # an older kind of volume
    "volumes": {},  # mount path -> `Volume`
    "cpu": None,  # cores: request, or (request, limit)
    "memory": None,  # MiB: request, or (request, limit)
    "ephemeral_disk": None,  # MiB of its own that the container may write; volumes do not count
    "min_containers": None,  # how many containers run even without requests; None: 0
    "max_containers": None,  # how many containers run at most; None: no limit but the machine
    "buffer_containers": None,  # how many idle containers run in addition while there are requests
    "scaledown_window": None,  # seconds that an idle container is kept, 2 to 3600; None: 60
    "proxy": None,  # a fixed address for outgoing traffic
    "retries": None,  # an int or `Retries`; not for web functions
    "timeout": 300,  # seconds that one request may take, its streaming included
    "startup_timeout": None,  # seconds from the start of a container until it is ready; None: as `timeout`
    "name": None,  # a name instead of the function's own; it is part of the URL
    "is_generator": None,  # not needed: homeport looks at the function
    "cloud": None,  # Modal's cloud for containers; here they run on this machine
    "region": None,  # a region, or a list: containers run on machines whose label `region` fits; without such labels, anywhere
    "routing_region": None,  # Modal's region for requests; here they come to this machine
    "nonpreemptible": False,  # homeport never preempts a container
    "enable_memory_snapshot": False,  # fork new containers from the state after `enter(snap=True)`
    "block_network": False,  # a container without network
    "restrict_modal_access": False,  # a container that can call no function, and use no Dict or Queue
    "single_use_containers": False,  # a container takes one request and ends
    "i6pn": None,  # Modal's private network
    "include_source": None,  # True: upload the script and the local modules that it imports; None: as the app says
    "experimental_options": None,  # options that Modal may change
    "_experimental_restrict_output": False,  # an internal option of Modal
    "max_inputs": None,  # 1 is an older spelling of `single_use_containers=True`
}
NOT_FOR_CLASSES = frozenset({"schedule", "name", "is_generator"})
RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
    "allow_concurrent_inputs": "@modal.concurrent",
}
#: Accepted without effect; a notice says so once.
IGNORED = (
    "network_file_systems", "proxy", "cloud", "routing_region",
    "nonpreemptible", "i6pn", "experimental_options", "_experimental_restrict_output",
)  # fmt: skip


def read(decorator: str, given_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return every keyword with its value or default.

    Raises `InvalidError` for a wrong value, and for an unknown name, with the nearest known name.
    """
    allowed = [k for k in DEFAULTS if decorator != "cls" or k not in NOT_FOR_CLASSES]
    for key in given_values:
        if key in RENAMED:
            raise DeprecationError(
                f"Deprecated on 2025-02-24: The '{key}' parameter has been renamed to "
                f"'{RENAMED[key]}'."
            )
        if key not in allowed:
            import difflib

            near = difflib.get_close_matches(key, allowed, 1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise MisuseError(
                f"`@app.{decorator}` got an unexpected keyword argument `{key}`.{hint}"
            )
    options = {**DEFAULTS, **given_values}
    for key, kind, word in (("name", str, "text"), ("is_generator", bool, "True or False")):
        if options[key] is not None and not isinstance(options[key], kind):
            raise InvalidError(f"`{key}` must be {word}, not {options[key]!r}")
    _check_scaling(options)
    _check_timeouts(options)
    _check_inputs(options)
    if options["image"] is not None and not isinstance(options["image"], Image):
        raise InvalidError("`image=` has to be a `modal.Image` object")
    options["secrets"] = check_secrets(options["secrets"] or ())
    options["volumes"] = check_volumes(options["volumes"])
    policy = options["retries"]
    if policy is not None and not isinstance(policy, (int, Retries)):
        raise InvalidError(
            "Retries parameter must be an integer or instance of modal.Retries. "
            f"Found: {type(policy)}."
        )
    retries(policy)
    schedule(options["schedule"])
    gpus(options["gpu"])
    regions(options["region"])
    pair(options["cpu"], float, "cpu")
    pair(options["memory"], int, "memory")
    checked(options["env"] or {})
    for key in IGNORED:
        if key in given_values and given_values[key] not in (None, False, {}, ()):
            notices.say(f"`{key}` is accepted and has no effect here")
    return options


def check_secrets(secrets: Collection[Any]) -> tuple[Secret, ...]:
    """Return the secrets as a tuple; `InvalidError` if the value has anything but secrets."""
    if not isinstance(secrets, (list, tuple, set, frozenset)) or not all(
        isinstance(secret, Secret) for secret in secrets
    ):
        raise InvalidError("`secrets=` has to be a list or tuple of `modal.Secret` objects")
    return tuple(secrets)


def pair(value: Any, convert: Any, name: str) -> Any:
    """Return the request and the hard limit: `2` becomes `(2, None)`, `(1, 4)` stays."""
    if value is None:
        return None
    try:
        low, high = value if isinstance(value, (tuple, list)) else (value, None)
        return convert(low), None if high is None else convert(high)
    except (TypeError, ValueError, OverflowError):
        raise InvalidError(
            f"`{name}` must be a number or a pair of numbers, not {value!r}"
        ) from None


def retries(value: Any) -> calls.Retries | None:
    """Return the policy; `3` is three more tries, each after a second."""
    if value is None:
        return None
    if isinstance(value, int):
        if value < 0:
            raise InvalidError(
                f"Invalid retries number: {value}. Function retries must be non-negative."
            )
        return calls.Retries(max_retries=value, initial_delay_s=1.0, backoff=1.0)
    return calls.Retries(
        max_retries=value.max_retries,
        initial_delay_s=float(value.initial_delay),
        backoff=float(value.backoff_coefficient),
        max_delay_s=float(value.max_delay),
    )


def schedule(value: Any) -> Schedule | None:
    """Return a `Cron` or a `Period` as the manifest has it; `InvalidError` for anything else."""
    if value is None:
        return None
    if not isinstance(value, (Cron, Period)):
        raise InvalidError(f"`schedule` must be a `modal.Cron` or a `modal.Period`, not {value!r}")
    problem = value.spec.problem()
    if problem is not None:
        raise InvalidError(f"the schedule {value.spec.text} {problem}")
    return value.spec


def gpus(value: Any) -> tuple[str, ...]:
    """Return `"A100:2"`, or a list of fallbacks, as a tuple; check each count."""
    if value is None:
        return ()
    listed = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for gpu in listed:
        if not isinstance(gpu, str):
            raise InvalidError(f'`gpu` must be a string such as "H100", not {gpu!r}')
        _, colon, count = gpu.partition(":")
        if colon and not validate.is_gpu(f"L4:{count}"):
            raise InvalidError(f"Invalid GPU count: {count}. Value must be an integer.")
        if not validate.is_gpu(gpu):
            raise InvalidError(f'`gpu` must be a string such as "H100", not {gpu!r}')
    return listed


def regions(value: Any) -> tuple[str, ...]:
    """Return `"us"`, or a list of regions, as a tuple."""
    listed = () if not value else (value,) if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(
        isinstance(region, str) and region for region in listed
    ):
        raise InvalidError(
            f'`region` must be a string such as "us", or a list of them, not {value!r}'
        )
    return tuple(listed)


def _check_scaling(options: dict[str, Any]) -> None:
    for key in ("min_containers", "max_containers", "buffer_containers", "ephemeral_disk"):
        value = options[key]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidError(f"`{key}` must be an int, not {type(value).__name__}")
        if value < (1 if key == "max_containers" else 0):
            raise InvalidError(f"`{key}` cannot be {value}")
    low, high = options["min_containers"], options["max_containers"]
    if low and high and low > high:
        raise InvalidError(
            f"`min_containers` ({low}) cannot be greater than `max_containers` ({high})"
        )
    window = options["scaledown_window"]
    low_s, high_s = validate.SCALEDOWN_S
    if window is not None and (isinstance(window, bool) or not isinstance(window, (int, float))):
        raise InvalidError(f"`scaledown_window` must be a number of seconds, not {window!r}")
    if window is not None and not low_s <= window <= high_s:
        raise InvalidError("`scaledown_window` must be between 2 and 3600 (inclusive)")


def _check_timeouts(options: dict[str, Any]) -> None:
    if options["timeout"] is None:
        raise InvalidError(
            "The `timeout` parameter cannot be set to None: give the seconds that one input may take."
        )
    for key in ("timeout", "startup_timeout"):
        value = options[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InvalidError(f"`{key}` must be a number of seconds, not {value!r}")
        if value is not None and not 0 <= value <= validate.TIMEOUT_S[1]:
            raise InvalidError(f"`{key}` must be between 1 second and 24 hours, not {value!r}")


def _check_inputs(options: dict[str, Any]) -> None:
    value = options["max_inputs"]
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidError(f"`max_inputs` must be an int, not {type(value).__name__}")
    if value <= 0:
        raise InvalidError("`max_inputs` must be positive")
    if value > 1:
        raise InvalidError("Only `max_inputs=1` is currently supported")
    notices.say("`max_inputs=1` is now `single_use_containers=True`")
    options["single_use_containers"] = True
