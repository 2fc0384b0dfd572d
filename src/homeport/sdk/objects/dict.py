"""`Dict`: keys and values that functions share."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from homeport.contract import frames
from homeport.sdk import keys, values
from homeport.sdk.exception import InvalidError
from homeport.sdk.objects import exchange
from homeport.sdk.objects.exchange import Steps
from homeport.sdk.objects.shared import Manager, Shared, query

_NOTHING: Any = object()


class Dict(Shared):
    """A dictionary on the server, for every function that knows its name.

    Keys and values are pickled. Each operation is atomic, and on the disk when it returns. An entry that was not used for
    seven days is removed. Each method has an `.aio`.
    """

    noun = "dicts"
    objects: "Manager[Dict]"

    @exchange.operation
    def get(self, key: Any, default: Any = None) -> Steps[Any]:
        """Return the value of a key, or the default."""
        return (yield from self._get(key, default))

    @exchange.operation
    def put(self, key: Any, value: Any, *, skip_if_exists: bool = False) -> Steps[bool]:
        """Set a key; return False if `skip_if_exists` is true and the key exists."""
        new = yield from self._put({key: value}, only_new=skip_if_exists)
        return new == 1 if skip_if_exists else True

    @exchange.operation
    def update(self, entries: Mapping[Any, Any] | None = None, /, **kwargs: Any) -> Steps[None]:
        """Set several keys, all of them or none."""
        yield from self._put({**(entries or {}), **kwargs})

    @exchange.operation
    def pop(self, key: Any, default: Any = _NOTHING) -> Steps[Any]:
        """Remove a key and return its value; `KeyError` without it, unless there is a default."""
        body = frames.pack([keys.pack(key)])
        (value,) = frames.unpack((yield from self._ask("pop", body, repeats=False)))
        if value is not None:
            return values.loads(value)
        if default is _NOTHING:
            raise KeyError(f"{key} not in dict {self._shown}")
        return default

    @exchange.operation
    def contains(self, key: Any) -> Steps[bool]:
        """Return whether a key is there."""
        answer = yield from self._ask("contains", frames.pack([keys.pack(key)]))
        return bool(json.loads(answer)["count"])

    @exchange.operation
    def len(self) -> Steps[int]:
        """Return the number of keys; at most 100,000 are counted."""
        answer = yield from self._ask("", method="GET")
        return int(json.loads(answer)["length"])

    @exchange.operation
    def clear(self) -> Steps[None]:
        """Remove everything."""
        yield from self._ask("clear")

    @property
    def keys(self) -> "Pages":
        """Iterate over the keys, in the order in which they were first set."""
        return Pages(self._page, lambda key, _value: keys.loads(key), only_keys=True)

    @property
    def values(self) -> "Pages":
        """Iterate over the values, in the order of their keys."""
        return Pages(self._page, lambda _key, value: values.loads(value))

    @property
    def items(self) -> "Pages":
        """Iterate over `(key, value)`."""
        return Pages(self._page, lambda key, value: (keys.loads(key), values.loads(value)))

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, _NOTHING)
        if value is _NOTHING:
            raise KeyError(f"{key} not in dict {self._shown}")
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def __len__(self) -> int:
        return self.len()

    def __bool__(self) -> bool:
        return True  # as in Modal, also for an empty dict: a truth test must not ask the server

    def __iter__(self) -> Iterator[Any]:
        raise InvalidError(
            "a Dict has no iterator of its own: use `.keys()`, `.values()` or `.items()`"
        )

    def __repr__(self) -> str:
        return f"Dict({self._shown})"

    @property
    def _shown(self) -> str:
        return f"'{self._name or self._id or 'ephemeral'}'"

    def _get(self, key: Any, default: Any) -> Steps[Any]:
        (value,) = frames.unpack((yield from self._ask("get", frames.pack([keys.pack(key)]))))
        return default if value is None else values.loads(value)

    def _put(self, entries: Mapping[Any, Any], *, only_new: bool = False) -> Steps[int]:
        parts = [
            part for key, value in entries.items() for part in (keys.pack(key), values.dumps(value))
        ]
        path = query("put", only_new="1" if only_new else "")
        answer = yield from self._ask(path, frames.pack(parts), repeats=not only_new)
        return int(json.loads(answer)["count"])

    @exchange.operation
    def _page(self, after: str, only_keys: bool) -> Steps[tuple[str, list[tuple[bytes, bytes]]]]:
        path = query("items", after=after, keys="1" if only_keys else "")
        first, *parts = frames.values((yield from self._ask(path, method="GET")))
        return first.decode(), list(zip(parts[::2], parts[1::2], strict=True))


class Pages:
    """`d.items()`, and `d.items.aio()` for `async for`."""

    def __init__(
        self,
        page: "exchange.Operation[[str, bool], tuple[str, list[tuple[bytes, bytes]]]]",
        read: Callable[[bytes, bytes], Any],
        *,
        only_keys: bool = False,
    ) -> None:
        self._page, self._read, self._only_keys = page, read, only_keys

    def __call__(self) -> Iterator[Any]:
        after, entries = self._page("", self._only_keys)
        while entries:
            yield from (self._read(*entry) for entry in entries)
            if not after:
                return
            after, entries = self._page(after, self._only_keys)

    async def aio(self) -> AsyncIterator[Any]:
        """The same for `async for`."""
        after, entries = await self._page.aio("", self._only_keys)
        while entries:
            for entry in entries:
                yield self._read(*entry)
            if not after:
                return
            after, entries = await self._page.aio(after, self._only_keys)


Dict.objects = Manager(Dict)
