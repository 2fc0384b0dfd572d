"""BentoML."""

from pathlib import Path

import psutil

from bench import processes
from bench.contenders.base import Program


class Bento(Program):
    """A worker that mounts the FastAPI app, and its supervisor."""

    name = "BentoML"
    told = "`bentoml serve`: `workers=1, max_concurrency=1000`, `@bentoml.asgi_app`, no access log"
    environment = "bentoml"
    packages = ["bentoml", "fastapi"]
    path = "/web/"

    def argv(self, port: int) -> list[str]:
        words = [str(self.folder / "bin" / "bentoml"), "serve", "bento_web:Hello"]
        return [*words, "--host", "127.0.0.1", "--port", str(port)]

    def environ(self, root: Path) -> dict[str, str]:
        return {
            "BENTOML_HOME": str(root),
            "BENTOML_DO_NOT_TRACK": "1",
            "BENTOML_CONFIG_OPTIONS": "services.Hello.logging.access.enabled=false",
        }

    def label(self, process: psutil.Process) -> str:
        return "worker" if "worker.service" in processes.words(process) else "supervisor"
