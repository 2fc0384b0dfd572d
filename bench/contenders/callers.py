"""Peers of `.remote()` and `.map()`: they call functions in other processes, and serve no HTTP."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench import venv
from bench.contenders.base import APPS, free_port

PATIENCE_S = 600.0
WORKERS = 4
Told = dict[str, list[float]]


class Caller:
    """One peer: its measurements are made by a script of its own, in an environment of its own."""

    name: str
    told: str
    environment: str
    packages: list[str]

    def measure(self, root: Path, calls: int, inputs: int, colds: int) -> Told:
        """Return lists of figures by the names in `measures/calls.TITLES`; `NotInstalled` if it cannot run."""
        raise NotImplementedError

    def _run(self, words: list[str], environ: dict[str, str]) -> Told:
        folder = venv.made(self.environment, self.packages)
        done = subprocess.run(
            [str(folder / "bin" / "python"), *words],
            cwd=APPS,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise venv.NotInstalled(f"{self.name} failed: {done.stderr.strip()[-500:]}")
        found: Told = json.loads(done.stdout.splitlines()[-1])
        return found


class Ray(Caller):
    """An actor for each container."""

    name = "Ray"
    told = "actors without CPUs of their own; a cold call makes an actor"
    environment = "ray"
    packages = ["ray[serve]"]

    def measure(self, root: Path, calls: int, inputs: int, colds: int) -> Told:  # noqa: ARG002
        words = ["ray_calls.py", *map(str, (calls, inputs, colds))]
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        return self._run(words, quiet)


class Celery(Caller):
    """Four workers and a Redis."""

    name = "Celery with Redis"
    told = f"`--pool prefork --concurrency {WORKERS}`, JSON, results in Redis, which writes nothing to the disk here; operations are of Redis itself; it does not start workers for a call"
    environment = "celery"
    packages = ["celery[redis]"]

    def measure(self, root: Path, calls: int, inputs: int, colds: int) -> Told:  # noqa: ARG002
        folder = venv.made(self.environment, self.packages)
        with _redis(root) as url:
            environ = {"REDIS_URL": url}
            words = ["-m", "celery", "-A", "celery_calls", "worker", "--pool", "prefork"]
            words += ["--concurrency", str(WORKERS), "--loglevel", "ERROR", "--without-gossip"]
            with _process([str(folder / "bin" / "python"), *words], root / "worker.log", environ):
                return self._run(["celery_calls.py", str(calls), str(inputs)], environ)


@contextlib.contextmanager
def _redis(root: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise venv.NotInstalled("there is no redis-server: `apt-get install redis-server`")
    port = free_port()
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(root)]
    with _process(words, root / "redis.log", {}):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def _process(words: list[str], log: Path, environ: dict[str, str]) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(
            words,
            cwd=APPS,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def everyone() -> list[Caller]:
    """Return all peers."""
    return [Ray(), Celery()]
