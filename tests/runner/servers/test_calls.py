"""What a container answers to calls, and what the caller makes of it; only the ingress is missing."""

import asyncio
import contextvars
import dataclasses
import json
import sys
import threading

import pytest

from homeport import wire
from homeport.contract import calls
from homeport.contract.manifest import Batch
from homeport.sdk import context, exception
from homeport.wire import blocking
from tests.functions import served
from tests.waiting import wait_for

# A caller on this test's own loop would warn; the tests that mean it use `.aio`.


@pytest.fixture
def functions(tmp_path):
    with served(tmp_path / "calls.sock") as functions:
        yield functions
    if blocking._own.connection is not None:
        blocking._own.connection.close()
        blocking._own.connection = None


def test_arguments_and_results_of_any_type_arrive(functions):
    def echo(*args, **kwargs):
        return args, kwargs

    async def later(value):
        await asyncio.sleep(0)
        return value

    handle = functions.add(echo)
    for value in (1, None, "ü", {"a": [1, {2}]}, b"\0" * 3_000_000, {n: n for n in range(1000)}):
        assert ((value,), {"k": value}) == handle.remote(value, k=value)
    assert 5 == functions.add(later).remote(5)
    # What plain pickle cannot: a function of this very test.
    assert 9 == handle.remote(lambda x: x * x)[0][0](3)


def test_a_result_or_an_argument_that_cannot_be_sent_is_an_error(functions):
    def lock():
        return threading.Lock()

    with pytest.raises(exception.SerializationError, match="lock"):
        functions.add(lock).remote()
    with pytest.raises(exception.SerializationError, match="cannot be sent"):
        functions.add(lock).remote(threading.Lock())


def test_an_exception_that_cannot_be_pickled_arrives_with_its_text(functions):
    class Odd(Exception):
        def __init__(self, text, lock):
            super().__init__(text)
            self.lock = lock

    class Picky(Exception):
        def __init__(self, one, two):  # pickles, and does not unpickle
            super().__init__(one)

    def odd():
        raise Odd("it is odd", threading.Lock())

    def picky():
        raise Picky("it is picky", 2)

    def leaves():
        sys.exit("it leaves")

    for function, text in ((odd, "it is odd"), (picky, "it is picky"), (leaves, "it leaves")):
        with pytest.raises(exception.ExecutionError, match=text) as caught:
            functions.add(function).remote()
        assert f"in {function.__name__}" in str(caught.value.__cause__)


def test_an_exception_by_which_python_ends_a_coroutine_is_an_error_of_the_function_that_raises_it(
    functions,
):
    async def cancels():
        later = asyncio.get_running_loop().create_future()
        later.cancel()
        await later

    async def closes():
        raise GeneratorExit

    def cancels_in_a_thread():
        raise asyncio.CancelledError

    def closes_in_a_thread():
        raise GeneratorExit

    def stops():
        return next(iter([]))

    for function, name in (
        (cancels, "CancelledError"),
        (closes, "GeneratorExit"),
        (cancels_in_a_thread, "CancelledError"),
        (closes_in_a_thread, "GeneratorExit"),
        (stops, "StopIteration"),
    ):
        with pytest.raises(RuntimeError, match=f"the function raised {name}"):
            functions.add(function).remote()


def test_a_generator_that_raises_such_an_exception_ends_with_an_error(functions):
    def closes():
        yield 1
        raise GeneratorExit

    async def cancels():
        yield 1
        raise asyncio.CancelledError

    for function, name in ((closes, "GeneratorExit"), (cancels, "CancelledError")):
        items = functions.add(function, generator=True).remote_gen()

        assert 1 == next(items)
        with pytest.raises((exception.ExecutionError, RuntimeError), match=name):
            next(items)


def test_a_generator_that_cannot_be_called_with_its_arguments_is_a_type_error(functions):
    def sync(one):
        yield one

    async def later(one):
        yield one

    for function in (sync, later):
        with pytest.raises(TypeError, match="positional argument"):
            list(functions.add(function, generator=True).remote_gen(1, 2))


def test_a_batch_that_raises_such_an_exception_fails_for_each_caller(functions):
    async def cancels(items):
        raise asyncio.CancelledError

    handle = functions.add(cancels, batch=Batch(size=2, wait_ms=5))

    with pytest.raises(RuntimeError, match="the function raised CancelledError"):
        handle.remote(1)


def test_arguments_of_another_python_are_read_unless_they_hold_code(functions):
    def echo(value):
        return value

    handle = functions.add(echo)
    other = "3.99"

    def ask(value) -> wire.Answer:
        import cloudpickle

        body = cloudpickle.dumps(((value,), {}))
        fields = {calls.PYTHON: other}
        return wire.ask(
            context.reach().socket, wire.Request(handle.target().endpoint, body, fields=fields)
        )

    assert calls.VALUE == ask({"a": 1}).outcome
    refused = ask(lambda: 1)
    assert calls.FAILED == refused.outcome
    failed = calls.Failed.decode(bytes(refused.body))
    assert failed.type.endswith("DeserializationError")
    assert "the same Python" in failed.text
    garbage = wire.ask(
        context.reach().socket, wire.Request(handle.target().endpoint, b"\x80garbage")
    )
    assert "cannot read its arguments" in calls.Failed.decode(bytes(garbage.body)).text


def test_a_call_with_arguments_in_json_is_answered_in_json(functions):
    def add(a, b=1):
        return {"sum": a + b}

    def count(to):
        yield from range(to)
        raise ValueError("enough")

    def opaque():
        return object()

    def ask(function, body, **options):
        endpoint = functions.add(function, **options).target().endpoint
        request = wire.Request(endpoint, body, content_type=calls.JSON)
        answer = wire.ask(context.reach().socket, request)
        return answer.outcome, bytes(answer.body)

    assert (calls.VALUE, {"sum": 3}) == _read(ask(add, b'{"args": [1], "kwargs": {"b": 2}}'))
    outcome, told = _read(ask(opaque, b""))
    assert (calls.FAILED, "homeport.sdk.exception.SerializationError") == (
        outcome,
        told["error"]["type"],
    )
    for wrong in (b"[1]", b"{", b'{"arg": []}', b'{"args": {}}'):
        outcome, told = _read(ask(add, wrong))
        assert calls.FAILED == outcome
        assert "InvalidError" in told["error"]["type"]


def _read(answered):
    outcome, body = answered
    return outcome, json.loads(body)


def test_a_generator_in_json_is_a_line_for_each_value(functions):
    def count(to):
        yield from range(to)
        raise ValueError("enough")

    endpoint = functions.add(count, generator=True).target().endpoint
    request = wire.Request(endpoint, b'{"args": [2]}', content_type=calls.JSON)
    answer = wire.ask(context.reach().socket, request)
    first, second, last = bytes(answer.body).splitlines()

    assert calls.STREAM == answer.outcome
    assert [{"value": 0}, {"value": 1}] == [json.loads(first), json.loads(second)]
    assert "enough" == json.loads(last)["error"]["message"]


def test_retries_are_those_that_the_ingress_tells_of(functions):
    functions.retries = calls.Retries(max_retries=2, initial_delay_s=0.0).text
    seen = []

    def fails(times):
        seen.append(times)
        if len(seen) <= times:
            raise ValueError(f"{len(seen)}")
        return len(seen)

    handle = functions.add(fails)
    assert 3 == handle.remote(2)
    seen.clear()
    with pytest.raises(ValueError, match="3"):
        handle.remote(5)
    assert 3 == len(seen)


def test_refusals_of_the_ingress_are_exceptions_or_tried_again(functions):
    def one():
        return 1

    handle = functions.add(one)
    functions.refusals += [(503, "homeport: no container takes the request now")] * 2
    assert 1 == handle.remote()
    for status, text, kind in (
        (504, "homeport: the function took longer than 1 s", exception.FunctionTimeoutError),
        (502, "homeport: the container ended", exception.InternalFailure),
        (500, "homeport: import failed: no module", exception.ExecutionError),
        (429, "homeport: 5000 requests wait", exception.ResourceExhaustedError),
        (413, "homeport: the body is larger than 4 GiB", exception.RequestSizeError),
        (400, "homeport: missing class parameter", exception.InvalidError),
        (404, "homeport: nothing", exception.NotFoundError),
    ):
        functions.refusals.append((status, text))
        with pytest.raises(kind):
            handle.remote()
    functions.retries = calls.Retries(max_retries=1, initial_delay_s=0.0).text
    functions.refusals += [(504, "late")]
    assert 1 == handle.remote()
    functions.refusals += [(502, "died")]
    assert 1 == handle.remote()


async def test_a_blocking_call_on_a_loop_warns(functions):
    def one():
        return 1

    handle = functions.add(one)
    with pytest.warns(exception.AsyncUsageWarning, match="aio"):
        assert 1 == handle.remote()
    assert 1 == await handle.remote.aio()


def test_a_sync_generator_is_only_a_little_ahead_of_its_reader(functions):
    made = []

    def count():
        for number in range(10_000):
            made.append(number)
            yield b"x" * 100_000

    items = functions.add(count, generator=True).remote_gen()
    next(items)
    # The generator stands still: its thread waits for room.
    wait_for(lambda: any(_waits_for_room()), "the generator's thread to wait")
    assert len(made) < 1000
    items.close()


def _waits_for_room():
    """For each thread, whether it waits in `acquire` for its generator's reader."""
    for frame in sys._current_frames().values():
        names = []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        yield "acquire" in names and "work" in names


def test_a_batch_is_one_call(functions):
    sizes = []

    def double(values, extra):
        sizes.append(len(values))
        return [value * 2 + more for value, more in zip(values, extra, strict=True)]

    handle = functions.add(double, batch=Batch(size=4, wait_ms=60_000), inputs=4)
    assert [n * 2 + 1 for n in range(8)] == list(handle.map(range(8), [1] * 8))
    assert [4, 4] == sizes


def test_a_batch_that_is_not_full_goes_after_a_while(functions):
    async def double(values):
        return [value * 2 for value in values]

    assert 6 == functions.add(double, batch=Batch(size=4, wait_ms=10), inputs=4).remote(3)


def test_a_batched_function_must_return_a_list_of_equal_length(functions):
    def short(values):
        return values[:-1]

    def number(values):
        return 1

    def fails(values):
        raise ValueError("all of them")

    batch = Batch(size=2, wait_ms=5)
    for function, kind, text in (
        (short, exception.InvalidError, "equal length"),
        (number, exception.InvalidError, "must be a list"),
        (fails, ValueError, "all of them"),
    ):
        results = list(functions.add(function, batch=batch).map([1, 2], return_exceptions=True))
        assert [kind, kind] == [type(result) for result in results]
        assert text in str(results[0])


def test_the_request_says_who_calls(functions):
    def one():
        return context.current_function_call_id()

    handle = functions.add(one)

    def call():
        context.input_id.set("parent")
        return handle.remote()

    contextvars.copy_context().run(call)
    assert b"fc-parent" == functions.fields[-1][b"x-homeport-parent"]


def ids():
    return context.current_input_id(), context.current_function_call_id()


def test_ids_are_right_in_every_kind_of_call(functions):
    def plain(_n=0):
        return ids()

    async def later():
        return await asyncio.to_thread(ids)

    def count():
        for _ in range(2):
            yield ids()

    async def count_async():
        for _ in range(2):
            yield ids()

    for function in (plain, later):
        assert ("in-r1", "fc-r1") == functions.add(function).remote()
    for function in (count, count_async):
        handle = functions.add(function, generator=True)
        assert [("in-r1", "fc-r1")] * 2 == list(handle.remote_gen())
    assert (None, None) == ids()


def test_the_inputs_of_a_map_belong_to_one_call(functions):
    def plain(_n):
        return ids()

    first = list(functions.add(plain).map(range(3)))
    second = list(functions.add(plain).map(range(3)))

    assert 2 == len({call for _, call in first + second})
    assert 1 == len({call for _, call in first})
    forged = wire.Request(
        functions.add(plain).target().endpoint,
        b'{"args": [1]}',
        content_type=calls.JSON,
        fields={calls.MAP: "fc-1 or something else"},
    )
    answer = wire.ask(context.reach().socket, forged)
    assert ["in-r1", "fc-r1"] == json.loads(bytes(answer.body))


def test_a_batch_has_the_ids_of_its_first_input(functions):
    seen = []

    def batched(values):
        seen.append(ids())
        return values

    functions.number = True
    handle = functions.add(batched, batch=Batch(size=3, wait_ms=60_000), inputs=3)
    list(handle.map(range(3)))

    (found,) = seen
    assert "in-r1" == found[0]


def test_a_stream_that_is_too_slow_ends_with_the_timeout(functions):
    async def slow():
        yield 1
        await asyncio.Event().wait()

    items = functions.add(slow, generator=True, timeout_s=0.5).remote_gen()
    assert 1 == next(items)
    with pytest.raises(exception.FunctionTimeoutError, match=r"longer than 0\.5 s"):
        next(items)


def test_a_function_that_waits_for_itself_says_so(functions, capfd, monkeypatch):
    def mine():
        return 1

    handle = functions.add(mine)
    reach = context.reach()
    assert reach is not None
    context.enter_calls(dataclasses.replace(reach, own=("mine",)))
    handle.remote()
    assert "waits for itself" not in capfd.readouterr().err
    monkeypatch.setattr(context, "is_full", lambda: True)
    handle.remote()
    assert "`mine` waits for itself" in capfd.readouterr().err
