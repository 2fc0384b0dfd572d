"""Ray Serve as it comes, and with HAProxy in place of its Python proxy."""

from pathlib import Path

import psutil

from bench import processes
from bench.contenders.base import Program, free_port

#: What a process's command line has -> what it is; the first that fits.
PARTS = {
    "ray::ServeReplica": "replica",
    "ray::ProxyActor": "proxy",
    "bin/haproxy": "HAProxy",
}


class RayServe(Program):
    """A proxy in Python, and a replica, on a Ray of its own."""

    name = "Ray Serve"
    told = "`num_replicas=1, max_ongoing_requests=1000`, no dashboard, no access log"
    environment = "ray"
    packages = ["ray[serve]"]

    def argv(self, port: int) -> list[str]:
        return [str(self.folder / "bin" / "python"), "ray_web.py", str(port)]

    def environ(self, _root: Path) -> dict[str, str]:
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

    def label(self, process: psutil.Process) -> str:
        told = processes.words(process)
        return next((label for part, label in PARTS.items() if part in told), "rest of Ray")


class RayServeHaproxy(RayServe):
    """HAProxy leads to the replica directly."""

    name = "Ray Serve with HAProxy"
    told = "the same with `RAY_SERVE_ENABLE_HA_PROXY=1`"

    def environ(self, root: Path) -> dict[str, str]:
        # Its own ports may belong to another Ray, and then it would not start.
        ports = {f"RAY_SERVE_HAPROXY_{of}_PORT": str(free_port()) for of in ("METRICS", "STATS")}
        return {**super().environ(root), "RAY_SERVE_ENABLE_HA_PROXY": "1", **ports}
