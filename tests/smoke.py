"""`uv run python tests/smoke.py`: deploy, ask, fail, end: on the oldest and the newest Python there is, and with the oldest dependencies.

`uv run python tests/smoke.py dist/*.whl` tries a wheel instead of the working tree. Pythons that this machine
lacks are left out, with a notice. Each run has its own virtual environment and home,
with the packages that `pip install homeport` installs and no others.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
SCRIPT = """
import modal

app = modal.App("smoke")

@app.function()
@modal.fastapi_endpoint()
def function(word: str = ""):
    return [word, __import__("platform").python_version()]

@app.function()
@modal.concurrent(max_inputs=10)
@modal.wsgi_app()
def wsgi():
    def answer(environ, start):
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"wsgi"]
    return answer

@app.function()
@modal.concurrent(max_inputs=10)
@modal.asgi_app()
def asgi():
    import fastapi
    web = fastapi.FastAPI()

    @web.websocket("/ws")
    async def ws(socket: fastapi.WebSocket):
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    return web
"""
CHAT = """
import asyncio, sys, websockets

async def main():
    async with websockets.connect(sys.argv[1].replace("http", "ws") + "/ws") as chat:
        await chat.send("word")
        assert "word" == await chat.recv()

asyncio.run(main())
"""


def main() -> int:
    pythons = found()
    if not pythons:
        print(f"smoke: no Python from {OLDEST} on was found")
        return 1
    oldest, newest = min(pythons), max(pythons)
    minors = {version[:2] for version in pythons}
    tried = {f"Python {named(oldest)}": (pythons[oldest], "highest")}
    tried[f"Python {named(newest)}"] = (pythons[newest], "highest")
    tried[f"Python {named(oldest)}, oldest dependencies"] = (pythons[oldest], "lowest-direct")
    for title, (python, resolution) in tried.items():
        with tempfile.TemporaryDirectory(prefix="homeport-smoke-", dir="/var/tmp") as folder:
            installed = install(Path(folder), python, resolution)
            if installed:
                smoke(Path(folder))
                print(f"smoke: {title}: good", flush=True)
            elif resolution == "highest" and python != sys.executable:
                # A Python that is newer than the packages' wheels, on a machine without compilers.
                print(
                    f"smoke: {title}: left out, its packages cannot be installed here", flush=True
                )
            else:
                return 1
    print(f"smoke: this machine has {', '.join(f'{a}.{b}' for a, b in sorted(minors))}")
    return 0


def found() -> dict[tuple[int, ...], str]:
    """Every Python of this machine that is new enough: version -> path."""
    listed = subprocess.run(
        ["uv", "python", "list", "--only-installed", "--no-project"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    paths = [sys.executable, "/usr/bin/python3", *re.findall(r"\s(/\S+)", listed)]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    paths += [str(path) for path in root.glob("versions/*/bin/python3")]
    known: dict[tuple[int, ...], str] = {}
    for path in paths:
        code = "import sys, venv; print(*sys.version_info[:3], sys.version_info[3], sys.prefix == sys.base_prefix)"
        with contextlib.suppress(OSError, ValueError):
            told = subprocess.run(
                [path, "-c", code], capture_output=True, text=True, check=False
            ).stdout.split()
            if len(told) == 5 and told[3:] == ["final", "True"]:
                known.setdefault(tuple(int(n) for n in told[:3]), path)
    return {version: path for version, path in known.items() if version >= OLDEST}


def named(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def install(folder: Path, python: str, resolution: str) -> bool:
    venv = str(folder / "venv")
    subprocess.run(["uv", "venv", "--quiet", "--no-project", "--python", python, venv], check=True)
    words = [
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        venv,
        "--resolution",
        resolution,
        sys.argv[1] if sys.argv[1:] else str(ROOT),
    ]
    return not subprocess.run(words, check=False).returncode


def smoke(folder: Path) -> None:
    """Do what a first user does, from the first deploy to the end of the server."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("HOMEPORT", "UV_"))}
    environ |= {"HOMEPORT_HOME": str(folder / "home"), "HOMEPORT_HTTP_PORT": "0", "NO_COLOR": "1"}
    script = folder / "script.py"

    def homeport(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [folder / "venv/bin/homeport", *words],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def ask(url: str) -> str:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=60
        ) as answer:
            return answer.read().decode()

    try:
        script.write_text(SCRIPT)
        told = homeport("deploy", str(script))
        urls = dict(re.findall(r"^ +(\w+) .*or (http://\S+)\)", told, re.MULTILINE))
        assert ask(f"{urls['function']}/?word=x").startswith('["x",')
        assert ask(urls["wsgi"]) == "wsgi"
        alias = "import modal, modal.exception; assert modal.__name__ == 'homeport'"
        subprocess.run([folder / "venv/bin/python", "-c", alias], check=True)
        subprocess.run(
            [folder / "venv/bin/python", "-c", CHAT, urls["asgi"]], env=environ, check=True
        )
        script.write_text(SCRIPT + "\nif not modal.is_local(): raise RuntimeError('on purpose')\n")
        told = homeport("deploy", str(script), code=1)
        assert "on purpose" in told
        assert "bug of homeport" not in told
        assert ask(urls["wsgi"]) == "wsgi"
        script.write_text(SCRIPT.replace("def function", "def renamed"))
        homeport("deploy", str(script))
        homeport("status")
        homeport("app", "logs", "smoke")
    except BaseException:
        print((folder / "home/server.log").read_text(errors="replace"), flush=True)
        raise
    finally:
        homeport("down")
        shutil.rmtree(folder / "home", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
