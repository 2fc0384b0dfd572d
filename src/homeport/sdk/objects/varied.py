"""`with_options`, `with_concurrency` and `with_batching`: a function or a class with other options.

Each returns a new object; nothing is asked of the server before its first call. The options of a later call are added to
those of an earlier one, and replace them where both have one.
"""

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from homeport.contract.variants import Options


class Varied:
    """What functions and classes share that may have other options."""

    _options: "Options | None" = None  # None: as it was declared
    sessions: (
        "list[Any]"  # where it is served, inside `with app.run():`; a variant has the same list
    )

    def with_options(
        self,
        *,
        cpu: "float | tuple[float, float] | None" = None,  # cores: request, or (request, limit)
        memory: "int | tuple[int, int] | None" = None,  # MiB: request, or (request, limit)
        gpu: Any = None,
        env: "dict[str, str | None] | None" = None,
        secrets: "Collection[Any] | None" = None,  # instead of all that it has
        volumes: "dict[str | PurePosixPath, Any] | None" = None,  # instead of all that it has
        retries: Any = None,
        max_containers: "int | None" = None,
        buffer_containers: "int | None" = None,
        scaledown_window: "int | None" = None,
        timeout: "int | None" = None,
        region: Any = None,
        cloud: "str | None" = None,
        routing_region: "str | None" = None,
    ) -> "Self":
        """Return the same with other options; its calls have containers of their own."""
        from homeport.sdk.objects import variants  # a script that only declares needs none of it

        options = {
            name: value for name, value in locals().items() if name not in ("self", "variants")
        }
        return self._varied(variants.with_options(self._options_so_far(), options))

    def with_concurrency(self, *, max_inputs: int, target_inputs: "int | None" = None) -> "Self":
        """Return the same, of which a container takes so many inputs at once."""
        from homeport.sdk.objects import variants

        return self._varied(
            variants.with_concurrency(self._options_so_far(), max_inputs, target_inputs)
        )

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> "Self":
        """Return the same with inputs gathered in batches, as by `@modal.batched`."""
        from homeport.sdk.objects import variants

        return self._varied(variants.with_batching(self._options_so_far(), max_batch_size, wait_ms))

    def _options_so_far(self) -> "Options | None":
        """Return the options so far."""
        return self._options

    def _varied(self, options: "Options") -> "Self":
        import copy

        fresh = copy.copy(self)
        fresh._options = options  # noqa: SLF001 - its own class
        return fresh
