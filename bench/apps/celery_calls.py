"""Celery with Redis, called as its users do; prints JSON. Its arguments: calls, inputs."""

import json
import os
import statistics
import sys
import time

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


if __name__ == "__main__":
    calls, inputs = map(int, sys.argv[1:])
    same.delay(1).get(timeout=60)
    mapped(1000)
    told = {
        "remote_ms": [remote_ms(calls) for _ in range(5)],
        "mapped": [mapped(inputs) for _ in range(3)],
        "cold_ms": [],
    }
    print(json.dumps(told))
