"""`method`, `enter`, `exit`, `batched`, `concurrent`."""

from typing import Any

from homeport.contract import names
from homeport.sdk.exception import InvalidError
from homeport.sdk.objects.partial import Decorator, decorate, no_positional


def method(*args: Any, is_generator: bool | None = None) -> Decorator:
    """Declare a method that other code calls by `.remote()`."""
    no_positional("method", args)
    return lambda target: decorate(
        target, "method", flags=frozenset({"method"}), is_generator=is_generator
    )


def enter(*args: Any, snap: bool = False) -> Decorator:
    """Run a method when a container starts, before its first request.

    With `snap=True` and `enable_memory_snapshot=True` on the class, it runs once, and new containers start
    from the state after it.
    """
    no_positional("enter", args)
    flag = "enter_pre_snapshot" if snap else "enter_post_snapshot"
    return lambda target: decorate(target, "enter", flags=frozenset({flag}))


def exit(*args: Any) -> Decorator:  # noqa: A001 - the original's name
    """Run a method when a container ends, after its last request."""
    no_positional("exit", args)
    return lambda target: decorate(target, "exit", flags=frozenset({"exit"}))


def batched(*args: Any, max_batch_size: int, wait_ms: int) -> Decorator:
    """Declare a function that takes many inputs in one call: lists of at most `max_batch_size`.

    The call is made when there are so many inputs, or `wait_ms` after the first. The function returns a list
    with a result for each.
    """
    no_positional("batched", args)
    check_batching(max_batch_size, wait_ms)
    return lambda target: decorate(
        target, "batched", flags=frozenset({"batched"}), batch=(max_batch_size, wait_ms)
    )


def concurrent(
    *args: Any, max_inputs: int | None = None, target_inputs: int | None = None
) -> Decorator:
    """Let a container take `max_inputs` requests at once, 1 to 1000; without it, one.

    The autoscaler starts as many containers as give each of them `target_inputs` requests, or `max_inputs`
    if that is not given. For a function or a class, never for a method.
    """
    no_positional("concurrent", args)
    check_concurrency(max_inputs, target_inputs)
    return lambda target: decorate(
        target,
        "concurrent",
        concurrent=True,
        max_inputs=max_inputs,
        target_inputs=target_inputs,
    )


def check_batching(max_batch_size: int, wait_ms: int) -> None:
    """Raise `InvalidError` for limits of batches that are not allowed."""
    if not all(isinstance(limit, int) for limit in (max_batch_size, wait_ms)):
        raise InvalidError("max_batch_size and wait_ms must be integers.")
    if max_batch_size < 1:
        raise InvalidError("max_batch_size must be a positive integer.")
    if max_batch_size > 1000:
        raise InvalidError("max_batch_size cannot be greater than 1000.")
    if wait_ms < 0:
        raise InvalidError("wait_ms must be a non-negative integer.")
    if wait_ms > 600_000:
        raise InvalidError("wait_ms cannot be greater than 600000.")


def check_concurrency(max_inputs: int | None, target_inputs: int | None) -> None:
    """Raise `InvalidError` for numbers of concurrent inputs that are not allowed."""
    for name, value in (("max_inputs", max_inputs), ("target_inputs", target_inputs)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 1 <= value <= names.MAX_INPUTS):
            raise InvalidError(
                f"`{name}` must be an int from 1 to {names.MAX_INPUTS}, not {value!r}"
            )
    if target_inputs and max_inputs and target_inputs > max_inputs:
        raise InvalidError("`target_inputs` parameter cannot be greater than `max_inputs`.")
