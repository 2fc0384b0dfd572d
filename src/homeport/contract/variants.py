"""Variants: a function with other options, by `with_options`, `with_concurrency` and `with_batching`.

A variant has a pool and endpoints of its own, and the server makes them when a caller asks for the first call. Its name
is a digest of its options: every process computes the same name, and equal options are one variant.
"""

import dataclasses
import hashlib
import json
from dataclasses import field
from typing import Any

from homeport.contract import codec, names
from homeport.contract.calls import Retries
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.contract.manifest import Batch, FunctionSpec, SecretRef, VolumeMount

MARK = "+"  # in the name of a variant's pools, which no function can have
SHOWN = 8  # digits of the digest in that name
#: Options that replace the function's own, by the same name.
_PLAIN = (
    *("cpu", "memory_mib", "gpu", "region", "secrets", "volumes", "retries"),
    *("max_containers", "buffer_containers", "scaledown_window_s", "timeout_s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options in which a variant differs; None leaves the function's own value."""

    cpu: tuple[float, float | None] | None = None  # cores: request, hard limit
    memory_mib: tuple[int, int | None] | None = None  # request, hard limit
    gpu: tuple[str, ...] | None = None  # in order of preference
    region: tuple[str, ...] | None = None  # of the machines that may run it
    secrets: tuple[SecretRef, ...] | None = field(default=None, repr=False)  # instead of all others
    volumes: tuple[VolumeMount, ...] | None = None  # instead of all others
    retries: Retries | None = None
    max_containers: int | None = None
    buffer_containers: int | None = None
    scaledown_window_s: float | None = None
    timeout_s: float | None = None
    max_inputs: int | None = None
    target_inputs: int | None = None
    batch: Batch | None = None

    @property
    def body(self) -> bytes:
        """The options as JSON; equal options have equal bytes."""
        values = {name: value for name, value in codec.encode(self).items() if value is not None}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """The variant's name.

        >>> Options(cpu=(2.0, None)).digest == Options(cpu=(2.0, None)).digest != Options().digest
        True
        """
        return hashlib.sha256(self.body).hexdigest()[:32]


def name(function: str, digest: str) -> str:
    """Return the name of a variant's pools.

    >>> name("f", "0123456789abcdef")
    'f+01234567'
    """
    return f"{function}{MARK}{digest[:SHOWN]}"


def origin(function: str) -> str:
    """Return the function that a pool with this name runs; the pool may be a variant's.

    >>> origin("Model.*+01234567"), origin("f")
    ('Model.*', 'f')
    """
    return function.partition(MARK)[0]


def varied(spec: FunctionSpec, options: Options) -> FunctionSpec:
    """Return the function with other options; `BadRequest` if they do not fit it.

    No container of a variant runs without demand, because nothing would end it.
    """
    changes: dict[str, Any] = {"min_containers": 0}
    for option in _PLAIN:
        if (value := getattr(options, option)) is not None:
            changes[option] = value
    changes |= _inputs(spec, options)
    if options.batch is not None:
        if len(spec.calls) != 1 or spec.web or spec.calls[0].generator:
            raise BadRequest(
                f"`{spec.name}` cannot be batched: a batched function is not a generator, "
                "and the only method of its class"
            )
        changes["calls"] = (dataclasses.replace(spec.calls[0], batch=options.batch),)
    return dataclasses.replace(spec, **changes)


def _inputs(spec: FunctionSpec, options: Options) -> dict[str, Any]:
    """Return the fields for concurrent inputs: their numbers count single inputs, so they are multiples of the
    batch's size.
    """
    before = max((call.batch.size for call in spec.calls if call.batch is not None), default=1)
    size = before if options.batch is None else options.batch.size
    if options.max_inputs is None:
        most, target = spec.max_inputs // before, spec.target_inputs
        target = None if target is None else target // before
    else:
        most, target = options.max_inputs, options.target_inputs
        if target is not None and target > most:
            raise BadRequest("`target_inputs` cannot be greater than `max_inputs`")
    return {
        "max_inputs": min(max(most, 1) * size, names.MAX_INPUTS),
        "target_inputs": None if target is None else min(max(target, 1) * size, names.MAX_INPUTS),
    }
