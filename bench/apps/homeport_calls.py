"""Functions that call each other, and measure it from inside."""

import asyncio
import time

import modal

app = modal.App("calls")
shared = modal.Dict.from_name("bench", create_if_missing=True)
AT_ONCE = 32


@app.function(min_containers=1, max_containers=1)
def same(value):
    return value


@app.function(min_containers=4, max_containers=4)
def one_of_four(value):
    return value


@app.function(max_containers=4)
@modal.concurrent(max_inputs=50)
def job(value):
    return value


@app.function(max_containers=10, scaledown_window=30)
def operations(count):
    began = time.perf_counter()
    for number in range(count // 2):
        shared[f"key {number}"] = number
        shared[f"key {number}"]
    return time.perf_counter() - began


@app.function(scaledown_window=2)
def cold(value):
    return value


@app.function(min_containers=1, max_containers=1, timeout=600)
@modal.asgi_app()
def caller():
    from fastapi import FastAPI

    api = FastAPI()

    @api.get("/remote/{count}")
    def remote(count: int):
        took = []
        for number in range(count):
            began = time.perf_counter()
            same.remote(number)
            took.append(time.perf_counter() - began)
        return sorted(took)

    @api.get("/local/{count}")
    def local(count: int):
        began = time.perf_counter()
        for number in range(count):
            same.local(number)
        return (time.perf_counter() - began) / count

    @api.get("/map/{count}")
    def mapped(count: int):
        began = time.perf_counter()
        assert list(one_of_four.map(range(count))) == list(range(count))
        return count / (time.perf_counter() - began)

    @api.get("/spawn/{count}")
    def spawned(count: int):
        began = time.perf_counter()
        calls = [job.spawn(number) for number in range(count)]
        took = time.perf_counter() - began
        modal.FunctionCall.gather(*calls)
        return count / took

    @api.get("/spawn-at-once/{count}")
    async def spawned_at_once(count: int):
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(number: int):
            async with gate:
                return await job.spawn.aio(number)

        began = time.perf_counter()
        calls = await asyncio.gather(*map(one, range(count)))
        took = time.perf_counter() - began
        await asyncio.gather(*(call.get.aio() for call in calls))
        return count / took

    @api.get("/operations/{count}")
    def from_ten(count: int):
        return count / max(operations.map([count // 10] * 10))

    @api.get("/cold")
    def from_zero():
        began = time.perf_counter()
        cold.remote(1)
        return time.perf_counter() - began

    return api
