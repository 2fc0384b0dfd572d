"""Functions that call each other, and measure it from inside."""

import time

import modal

app = modal.App("calls")


@app.function(min_containers=1, max_containers=1)
def same(value):
    return value


@app.function(min_containers=4, max_containers=4)
def one_of_four(value):
    return value


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

    @api.get("/cold")
    def from_zero():
        began = time.perf_counter()
        cold.remote(1)
        return time.perf_counter() - began

    return api
