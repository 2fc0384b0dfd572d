"""LitServe."""

import psutil

from bench import processes
from bench.contenders.base import Can, Program

WHY = "LitServe serves a `predict` function, not an ASGI app"


class Lit(Program):
    """An HTTP process and an inference worker, with a queue between them."""

    name = "LitServe"
    told = (
        "`workers_per_device=1, num_api_servers=1, fast_queue=True`, asked by POST, no access log"
    )
    environment = "litserve"
    packages = ["litserve"]
    cannot = {Can.SSE: WHY, Can.WEBSOCKET: WHY, Can.BODY: WHY}
    method = "POST"

    def argv(self, port: int) -> list[str]:
        return [str(self.folder / "bin" / "python"), "lit_web.py", str(port)]

    def label(self, process: psutil.Process) -> str:
        told = processes.words(process)
        return "worker" if "spawn_main" in told else "HTTP and the rest"
