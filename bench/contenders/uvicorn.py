"""The app server alone: the limit of what homeport can reach, for its containers run the same."""

import sys

from bench import machine
from bench.contenders.base import Program


class Uvicorn(Program):
    """In the environment that homeport runs in, so with the same versions."""

    name = "uvicorn"
    app_server = True
    told = "`uvicorn web:web --no-access-log`: uvloop and httptools, one process"

    def install(self) -> None:
        self.versions = {name: machine.ours()[name] for name in ("uvicorn", "httptools", "uvloop")}

    def argv(self, port: int) -> list[str]:
        words = [sys.executable, "-m", "uvicorn", "web:web", "--port", str(port)]
        return [*words, "--no-access-log", "--log-level", "warning"]
