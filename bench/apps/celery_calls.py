"""Celery with Redis, called as its users do; prints JSON. Its arguments: calls, inputs."""

import json
import multiprocessing
import os
import statistics
import sys
import time

import redis
from celery import Celery, group

URL = os.environ.get("REDIS_URL", "")
app = Celery("celery_calls", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=16, broker_connection_retry_on_startup=True)


@app.task
def same(value):
    return value


def remote_ms(count: int) -> float:
    took = []
    for number in range(count):
        began = time.perf_counter()
        same.delay(number).get(interval=0.0005)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def mapped(count: int) -> float:
    began = time.perf_counter()
    assert group(same.s(number) for number in range(count))().get() == list(range(count))
    return count / (time.perf_counter() - began)


def spawned(count: int) -> float:
    began = time.perf_counter()
    calls = [same.delay(number) for number in range(count)]
    took = time.perf_counter() - began
    for call in calls:
        call.get(interval=0.0005)
    return count / took


def operated(count: int) -> float:
    """Set and read keys; return how many seconds it took."""
    client = redis.Redis.from_url(URL)
    client.ping()
    began = time.perf_counter()
    for number in range(count // 2):
        client.set(f"key {number}", number)
        client.get(f"key {number}")
    return time.perf_counter() - began


def operations(count: int) -> float:
    with multiprocessing.Pool(10) as pool:
        return count / max(pool.map(operated, [count // 10] * 10, chunksize=1))


if __name__ == "__main__":
    calls, inputs = map(int, sys.argv[1:])
    same.delay(1).get(timeout=60)
    mapped(1000)
    told = {
        "remote_ms": [remote_ms(calls) for _ in range(5)],
        "mapped": [mapped(inputs) for _ in range(3)],
        "spawned": [spawned(calls) for _ in range(5)],
        "operations": [operations(inputs) for _ in range(3)],
        "cold_ms": [],
    }
    print(json.dumps(told))
