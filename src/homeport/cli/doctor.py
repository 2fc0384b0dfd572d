"""`homeport doctor`: checks this machine, and says how to repair what is missing."""

import asyncio
import contextlib
import json as jsonlib
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import typer

from homeport import __version__
from homeport.cli import backup, options, output, server
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure
from homeport.contract.sizes import GIB
from homeport.contract.starting import LOCK, leader
from homeport.settings import Settings

PATIENCE_S = 30.0
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    good: bool
    text: str
    hint: str = ""
    needed: bool = True  # False if homeport works without it


def doctor(json: options.Json = False) -> None:
    """Check this machine: what is installed, what is missing, and how to repair it."""
    settings = options.load()
    findings = [
        Finding("homeport", True, f"{__version__}, home {settings.home}"),
        _python(),
        _haproxy(settings),
        _uv(),
        _home(settings),
        _database(settings),
        _limits(settings),
        _tmp(),
        _isolation(settings),
        _images(),
        _gpus(),
        *(_agent(settings) or asyncio.run(_server(settings))),
        _names(settings),
    ]
    if json:
        output.show_json([asdict(finding) for finding in findings])
    for finding in () if json else findings:
        mark = "✓" if finding.good else ("✗" if finding.needed else "·")
        output.out().print(f"{mark} {finding.what}: {finding.text}")
        if finding.hint and not finding.good:
            output.out().print(f"    hint: {finding.hint}")
    if any(finding.needed and not finding.good for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    good = sys.version_info >= OLDEST_PYTHON
    text = f"{platform.python_version()} at {sys.executable}"
    return Finding("Python", good, text, "3.11 or newer is needed")


def _haproxy(settings: Settings) -> Finding:
    result = _run_module("homeport.ingress.process", HOMEPORT_HAPROXY=settings.haproxy)
    answer = jsonlib.loads(result.stdout or "{}")
    if "path" in answer:
        text = f"{answer['version']} with Lua {answer['lua']} at {answer['path']}"
        return Finding("HAProxy", True, text)
    failure = Failure.from_dict(answer.get("error", {"message": result.stderr}))
    return Finding("HAProxy", False, failure.message, failure.hint)


def _uv() -> Finding:
    result = _run_module("homeport.node.images.uv")
    answer = jsonlib.loads(result.stdout or "{}")
    text = answer.get("told") or answer.get("error") or result.stderr
    return Finding("uv", "told" in answer, text, "`pip install uv`; it builds images")


def _run_module(module: str, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of another room as a program and return its output; commands never import those rooms."""
    argv = [sys.executable, "-P", "-m", module, *words]
    try:
        return subprocess.run(
            argv,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"`python -m {module}` has not ended within {PATIENCE_S:g} s"
        return subprocess.CompletedProcess(argv, 1, stdout="", stderr=why)


def _asked(module: str, *words: str) -> tuple[dict[str, Any], str]:
    """Return what a module has printed as JSON, and why it is nothing."""
    result = _run_module(module, *words)
    lines = result.stderr.strip().splitlines()
    return jsonlib.loads(result.stdout or "{}"), lines[-1] if lines else "it has printed nothing"


def _limits(settings: Settings) -> Finding:
    answer, _ = _asked("homeport.node.limits.cgroups", settings.cgroup)
    if answer.get("used"):
        return Finding("limits", True, f"kept by cgroups below {answer['base']}")
    text = (
        "memory and disk are watched; a core limit is that many cores, and never part of one: "
        f"{answer.get('why', 'the cgroups cannot be asked')}"
    )
    hint = (
        "for limits that the kernel keeps, start the server where cgroups are delegated: "
        "`systemd-run --user --scope -p Delegate=yes homeport up`"
    )
    return Finding("limits", False, text, hint, needed=False)


def _tmp() -> Finding:
    if _run_module("homeport.runner.tmp").stdout.strip() == "own":
        return Finding("temporary files", True, "each container has a /tmp of its own")
    text = "containers share it, and have a TMPDIR of their own"
    return Finding(
        "temporary files", False, text, "allow user namespaces to your user", needed=False
    )


def _isolation(settings: Settings) -> Finding:
    try:
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        text = f"it cannot be tried, because {settings.home} cannot be written: {error.strerror}"
        return Finding("isolation", False, text, "name another directory in HOMEPORT_HOME")
    answer, _ = _asked("homeport.cell.report", str(settings.run_dir))
    setting = f"`isolation` is `{settings.isolation}`"
    if not answer.get("possible"):
        why = f"{answer.get('why', 'the trial printed nothing')} ({setting})"
        return Finding(
            "isolation", False, why, answer.get("hint", ""), needed=settings.isolation == "on"
        )
    users = "one user" if answer["ids"] == 1 else f"{answer['ids']} users"
    parts = [
        f"each container {'could have' if settings.isolation == 'off' else 'has'} a sandbox of {users}",
        "files on the disk" if answer["overlay"] else "files in memory",
    ]
    if not answer["network"]:
        parts.append("no network of its own")
    if not answer["abstract_sockets"]:
        parts.append("abstract sockets of this machine are in reach")
    return Finding("isolation", True, f"{', '.join(parts)} ({setting})")


def _images() -> Finding:
    """Check the programs for images with a root file system."""
    answer, why = _asked("homeport.node.images.rooted.tools")
    if "missing" not in answer:
        text = f"the programs for them cannot be looked for: {why}"
        return Finding("images", False, text, needed=False)
    if answer["missing"]:
        names = ", ".join(f"`{name}`" for name in answer["missing"])
        text = f"without {names}, images of a registry or with `apt_install` cannot be built"
        return Finding("images", False, text, f"`{answer['line']}`", needed=False)
    return Finding("images", True, "skopeo and mmdebstrap are there")


def _gpus() -> Finding:
    answer, why = _asked("homeport.node.limits.gpus")
    names = answer.get("names", [])
    if not answer:
        text = f"the driver cannot be asked: {why}"
        return Finding("GPUs", False, text, "`nvidia-smi` says why", needed=False)
    if not names and not answer.get("device_files"):
        return Finding("GPUs", True, "none")
    if not names:
        text = "there is `/dev/nvidiactl`, but the driver answers nothing"
        return Finding("GPUs", False, text, "`nvidia-smi` says why", needed=False)
    version = f"driver {answer['version'] or 'of an unknown version'}"
    if not answer["cuda"]:
        text = f"{', '.join(names)}; {version}, without `libcuda.so.1`"
        hint = "install the driver's libraries for CUDA, Debian's package `libcuda1`"
        return Finding("GPUs", False, text, hint, needed=False)
    files = f"{answer['libraries']} libraries and {answer['programs']} programs for images"
    return Finding("GPUs", True, f"{', '.join(names)}; {version}: {files}")


def _home(settings: Settings) -> Finding:
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = settings.home / ".doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        text = f"{settings.home} cannot be written: {error.strerror}"
        return Finding("home", False, text, "name another directory in HOMEPORT_HOME")
    free_gib = shutil.disk_usage(settings.home).free / GIB
    return Finding("home", free_gib > 1, f"{free_gib:.0f} GiB free", "make room on the disk")


def _database(settings: Settings) -> Finding:
    try:
        answer = backup.ask(settings, "look", patience_s=PATIENCE_S)
    except Failure as failure:
        return Finding("database", False, failure.message, failure.hint)
    except subprocess.TimeoutExpired:
        return Finding("database", False, f"it has not answered within {PATIENCE_S:g} s")
    except RuntimeError as error:
        return Finding("database", False, str(error).strip().splitlines()[-1])
    return Finding("database", True, answer["told"])


def _agent(settings: Settings) -> list[Finding]:
    """Check the agent, if this machine has joined another one."""
    try:
        saved = jsonlib.loads((settings.home / "cluster/joined.json").read_text())
        joined = f"this machine is `{saved['name']}` of {saved['address']}"
    except (OSError, ValueError, KeyError, TypeError):
        return []
    with contextlib.suppress(OSError, ValueError):
        pid, _ = leader((settings.home / LOCK).read_text())
        if pid:
            os.kill(pid, 0)
            return [Finding("node", True, f"{joined}, and its agent runs (pid {pid})")]
    hint = "`systemctl start homeport-node`, or `homeport node join --foreground`"
    return [Finding("node", False, f"{joined}, and its agent does not run", hint)]


async def _server(settings: Settings) -> list[Finding]:
    """Check the server that runs, and the machines that have joined it."""
    async with server.running(settings) as client:
        try:
            status = await client.server.status()
        except Failure as failure:
            return [Finding("server", False, failure.message, failure.hint, needed=False)]
        problems = await client.alerts.findings() if status.nodes else ()
    text = (
        f"pid {status.pid} on {output.address(status)}, {output.counted(len(status.apps), 'app')}"
    )
    machines = [
        Finding("machine", False, problem.text, problem.hint, needed=problem.needed)
        for problem in problems
        if problem.what == "machine"
    ]
    if status.nodes and not machines:
        machines.append(Finding("machines", True, f"{len(status.nodes)} besides this one"))
    return [Finding("server", True, text), *machines]


def _names(settings: Settings) -> Finding:
    host = f"anything.{settings.domain}"
    try:
        address = socket.getaddrinfo(host, 80)[0][4][0]
    except OSError:
        hint = "use the local port that is printed beside each URL, or a browser"
        return Finding("names", False, f"`{host}` has no address here", hint, needed=False)
    return Finding("names", True, f"`{host}` is {address}")
