"""Ray's `.remote()`, measured from inside a worker; prints JSON. Its arguments: calls, inputs, cold starts."""

import json
import statistics
import sys
import time

import ray


@ray.remote(num_cpus=0)
class Same:
    def same(self, value):
        return value


@ray.remote(num_cpus=0)
class Caller:
    def remote_ms(self, same, count):
        took = []
        for number in range(count):
            began = time.perf_counter()
            ray.get(same.same.remote(number))
            took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)

    def mapped(self, four, count):
        began = time.perf_counter()
        asked = [four[number % len(four)].same.remote(number) for number in range(count)]
        assert ray.get(asked) == list(range(count))
        return count / (time.perf_counter() - began)

    def cold_ms(self):
        began = time.perf_counter()
        ray.get(Same.remote().same.remote(1))
        return (time.perf_counter() - began) * 1000


def main() -> None:
    calls, inputs, colds = map(int, sys.argv[1:])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    same, four, caller = Same.remote(), [Same.remote() for _ in range(4)], Caller.remote()
    ray.get([each.same.remote(1) for each in (same, *four)])
    ray.get(caller.mapped.remote(four, 1000))
    told = {
        "remote_ms": [ray.get(caller.remote_ms.remote(same, calls)) for _ in range(5)],
        "mapped": [ray.get(caller.mapped.remote(four, inputs)) for _ in range(5)],
        "cold_ms": [ray.get(caller.cold_ms.remote()) for _ in range(colds)],
    }
    print(json.dumps(told))


main()
