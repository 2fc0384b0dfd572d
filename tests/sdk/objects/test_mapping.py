"""Many calls at once: their order, their exceptions, and how far ahead of its reader a map runs."""

import itertools
import threading

import pytest

from homeport.sdk import exception
from homeport.sdk.objects import mapping
from tests.functions import served


@pytest.fixture
def functions(tmp_path):
    with served(tmp_path / "calls.sock") as functions:
        yield functions


async def double(value):
    if value == "wrong":
        raise ValueError(value)
    return value * 2


def test_results_come_in_the_order_of_the_inputs(functions):
    gate = threading.Event()

    def held(number):
        if number == 0:
            assert gate.wait(60)
        else:
            gate.set()
        return number

    assert list(range(20)) == list(functions.add(held).map(range(20)))


def test_results_come_as_they_are_done_if_order_does_not_matter(functions):
    gate = threading.Event()

    def held(number):
        if number == 0:
            assert gate.wait(60)
        return number

    results = functions.add(held).map(range(3), order_outputs=False)
    assert {1, 2} == {next(results), next(results)}
    gate.set()
    assert [0] == list(results)


def test_iterables_are_zipped_and_starred_and_share_keywords(functions):
    def add(a, b, c=0):
        return a + b + c

    handle = functions.add(add)
    assert [11, 22] == list(handle.map([1, 2, 3], (10, 20)))
    assert [111, 122] == list(handle.map([1, 2], (10, 20), kwargs={"c": 100}))
    assert [3, 7] == list(handle.starmap(iter([(1, 2), (3, 4)])))
    assert handle.for_each([1], [2]) is None
    assert [] == list(handle.map([]))


def test_an_exception_ends_a_map_or_is_a_result(functions):
    handle = functions.add(double)
    results = handle.map([1, "wrong", 2], return_exceptions=True)
    first, failed, last = results

    assert (2, 4) == (first, last)
    assert isinstance(failed, ValueError)
    with pytest.raises(ValueError, match="wrong"):
        list(handle.map([1, "wrong", 2]))
    with pytest.raises(ValueError, match="wrong"):
        handle.for_each([1, "wrong"])
    handle.for_each([1, "wrong"], ignore_exceptions=True)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exception_of_the_iterator_of_inputs_ends_a_map(functions, error):
    def numbers():
        yield 1
        raise error("no more")

    with pytest.raises(error, match="no more"):
        list(functions.add(double).map(numbers()))


def test_an_exception_that_ends_a_map_does_not_wait_for_the_other_calls(functions):
    began, gate, never = threading.Event(), threading.Event(), threading.Event()

    def held(number):
        if number == 1:
            assert began.wait(60)
            raise ValueError("wrong")
        began.set()
        assert gate.wait(60)
        never.set()

    results = functions.add(held, inputs=2).map([0, 1], order_outputs=False)
    with pytest.raises(ValueError, match="wrong"):
        list(results)

    assert not never.is_set()
    gate.set()


def test_an_error_of_the_users_iterator_is_raised(functions):
    def inputs():
        yield 1
        raise KeyError("mine")

    results = functions.add(double).map(inputs())
    with pytest.raises(KeyError, match="mine"):
        list(results)


def test_an_endless_iterator_is_read_a_bounded_way_ahead(functions):
    numbers = itertools.count()
    results = functions.add(double).map(numbers)
    assert [n * 2 for n in range(500)] == [next(results) for _ in range(500)]
    results.close()

    assert next(numbers) < 500 + 3 * mapping.MOST


def test_an_iterator_may_wait_for_results(functions):
    seen: list[int] = []
    came = threading.Condition()

    def inputs():
        yield 1
        with came:
            assert came.wait_for(lambda: seen, 60)
        yield seen[0]

    results = functions.add(double).map(inputs())
    with came:
        seen.append(next(results))
        came.notify()
    assert [4] == list(results)


async def test_on_a_loop(functions):
    handle = functions.add(double)

    async def inputs():
        for number in range(100):
            yield number

    assert [n * 2 for n in range(100)] == [n async for n in handle.map.aio(inputs())]
    assert [2, 4] == [n async for n in handle.starmap.aio([(1,), (2,)])]
    await handle.for_each.aio([1, 2])
    with pytest.raises(ValueError, match="wrong"):
        await handle.for_each.aio(["wrong"])
    with pytest.raises(exception.InvalidError, match=r"map\.aio"):
        handle.map([1])
