"""`python -m homeport.growth HOST:PORT`: the control plane's driver in a Ray cluster.

It reads `Wanted` from its standard input, and writes `Seen` once a second to what was its standard output: Ray writes there too, so
that goes to standard error instead. It ends with its standard input, also while Ray does not answer. Ray ends
a driver whose cluster is gone; then the control plane starts the next one.
"""

import os
import queue
import sys
import threading
from typing import Any

from homeport.contract import codec
from homeport.contract.growth import Bundle, Joining, RayMachine, Seen, Wanted
from homeport.growth import agents

LOOK_S = 1.0
MIB = 2**20
HELD_CPUS = 0.001  # with it a machine counts as used, and has room for what it had room for before


def main() -> int:
    """Speak for the control plane until it ends; return the exit code."""
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    news: queue.Queue[Wanted] = queue.Queue()
    threading.Thread(target=_read, args=(news,), daemon=True).start()
    driver = Driver(sys.argv[1])
    while True:
        reports.write(codec.line(driver.look()))
        try:
            driver.want(news.get(timeout=LOOK_S))
        except queue.Empty:
            continue


def _read(news: "queue.Queue[Wanted]") -> None:
    try:
        for line in sys.stdin.buffer:
            news.put(codec.loads(Wanted, line))
    except Exception as error:  # else nobody would notice the end of the input
        sys.stderr.write(f"the control plane wants what cannot be read: {error}\n")
        os._exit(1)
    os._exit(0)  # the control plane has ended


class Driver:
    """The connection to one Ray cluster."""

    def __init__(self, address: str) -> None:
        import ray

        self._ray = ray
        ray.init(address=address, namespace="homeport", log_to_driver=False, logging_level="ERROR")
        self._own = ray.get_runtime_context().get_node_id()
        self._asked: tuple[Bundle, ...] | None = None
        self._holds: dict[str, Any] = {}  # by Ray's id of a machine: the actor that uses it
        self._begun: dict[Joining, Any] = {}  # the tasks, until an agent was started by each
        self._hold = ray.remote(num_cpus=HELD_CPUS, max_restarts=-1)(agents.Hold)
        self._begin = ray.remote(num_cpus=0, max_retries=0)(agents.begin)

    def look(self) -> Seen:
        """Return the machines that are alive, and say which agents could not be started."""
        for joining, task in self._begun.items():
            if task is None or not self._ray.wait([task], timeout=0)[0]:
                continue
            self._begun[joining] = None
            try:
                self._ray.get(task)
            except Exception as error:  # a machine that is gone, or has no homeport
                sys.stderr.write(f"the agent of {joining.name} was not started: {error}\n")
        return Seen(
            machines=tuple(
                RayMachine(
                    id=node["NodeID"],
                    name=node.get("NodeName") or node["NodeManagerAddress"],
                    host=node["NodeManagerAddress"],
                    cpus=node["Resources"].get("CPU", 0.0),
                    resources=tuple(sorted(node["Resources"])),
                    is_own=node["NodeID"] == self._own,
                )
                for node in self._ray.nodes()
                if node["Alive"]
            )
        )

    def want(self, wanted: Wanted) -> None:
        """Have Ray do what is wanted."""
        if wanted.bundles != self._asked:
            from ray.autoscaler.sdk import request_resources

            self._asked = wanted.bundles
            request_resources(bundles=[*map(resources, wanted.bundles)])
        for ray_id in self._holds.keys() - {*wanted.busy}:
            self._ray.kill(self._holds.pop(ray_id))
        for ray_id in {*wanted.busy} - self._holds.keys():
            self._holds[ray_id] = self._there(self._hold, ray_id).remote()
        for joining in self._begun.keys() - {*wanted.joining}:
            del self._begun[joining]
        for joining in {*wanted.joining} - self._begun.keys():
            task = self._there(self._begin, joining.ray_id)
            self._begun[joining] = task.remote(joining.name, joining.address, joining.token)

    def _there(self, remote: Any, ray_id: str) -> Any:
        """Return a task, or an actor, for one machine."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(ray_id, soft=False)
        return remote.options(scheduling_strategy=strategy)


def resources(bundle: Bundle) -> dict[str, float]:
    """Return a bundle in Ray's words.

    >>> resources(Bundle(cpus=2.0, memory_mib=1, gpus=0))
    {'CPU': 2.0, 'memory': 1048576}
    >>> resources(Bundle(kind="large", share=0.25))
    {'large': 0.25}
    """
    every = {
        "CPU": bundle.cpus,
        "memory": bundle.memory_mib * MIB,
        "GPU": bundle.gpus,
        bundle.kind: bundle.share,
    }
    return {name: count for name, count in every.items() if count}


if __name__ == "__main__":
    raise SystemExit(main())
