"""Methods that block, and their `.aio` variants for code that must not block."""

import threading

import pytest

from homeport.sdk.objects import blocking


class Thing:
    @blocking.method
    def where(self, name: str) -> tuple[str, bool]:
        """Say in which thread it runs."""
        return name, threading.current_thread() is threading.main_thread()

    @blocking.streaming
    def count(self, most: int):
        """Count."""
        yield from range(most)
        if most > 2:
            raise ValueError("too many")


async def test_a_call_blocks_and_its_aio_does_not():
    assert ("a", True) == Thing().where("a")
    assert ("b", False) == await Thing().where.aio(name="b")
    assert "Say in which thread it runs." == Thing.where.__doc__


async def test_a_stream_is_an_iterator_of_either_kind():
    assert [0, 1] == list(Thing().count(2))
    assert [0, 1] == [number async for number in Thing().count.aio(2)]
    with pytest.raises(ValueError, match="too many"):
        [number async for number in Thing().count.aio(3)]
