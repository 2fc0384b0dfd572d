"""uv: where it is, which Pythons it finds, and what it says in one line when it fails.

`python -m homeport.node.images.uv` prints where it is, for `homeport doctor`.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.node.images import command
from homeport.node.images.command import Done

OLDEST = (3, 10)
_VERSION = re.compile(r"\d+(\.\d+){0,2}t?")
#: Variables that would make uv use another interpreter or environment.
_MISLEADING = ("HOMEPORT_", "MODAL_", "PYTHON", "VIRTUAL_ENV", "CONDA", "UV_PYTHON", "UV_PROJECT")
#: From where uv downloads interpreters.
_SOURCES = ("UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS_JSON_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter of this machine."""

    path: str
    version: str  # in full: 3.11.7

    @property
    def minor(self) -> str:
        """3.11"""
        return ".".join(self.version.split(".")[:2])


def command_words() -> list[str]:
    """Return the first words of uv's command; `ImageError` if uv is not installed."""
    beside = Path(sys.executable).with_name("uv")
    # Ours first: it is the version that homeport was tried with.
    if os.access(beside, os.X_OK):
        return [str(beside)]
    if path := shutil.which("uv"):
        return [path]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise ImageError("images with steps are built by uv, and there is none", hint="pip install uv")


def program() -> str:
    """Return the path of uv's program, to show it in another root file system."""
    path = command_words()[0]
    if path != sys.executable:
        return str(Path(path).resolve())
    import uv

    return str(uv.find_uv_bin())


def environ(outer: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that uv sees: the caller's, without those that would mislead it."""
    variables = {k: v for k, v in outer.items() if k in _SOURCES or not k.startswith(_MISLEADING)}
    return {**variables, "NO_COLOR": "1"}


def told_in_cell(outer: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables in another root file system: the caller's indexes, and none of its paths."""
    wanted = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX", "UV_HTTP_TIMEOUT", "UV_FIND_LINKS")
    variables = {k: v for k, v in outer.items() if k.startswith(wanted)}
    if config := _config(outer):
        # As variables, because the file may name what only this machine has.
        lists = {"UV_FIND_LINKS": "find-links", "UV_EXTRA_INDEX_URL": "extra-index-url"}
        for variable, key in lists.items():
            if setting := config.get(key):
                variables.setdefault(
                    variable, " ".join([setting] if isinstance(setting, str) else setting)
                )
        if url := config.get("index-url"):
            variables.setdefault("UV_INDEX_URL", str(url))
    fixed = {"UV_NO_CONFIG": "1", "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
    return {**variables, **fixed, "NO_COLOR": "1"}


def local_indexes(outer: Mapping[str, str]) -> list[str]:
    """Return the directories of this machine in which uv looks for packages."""
    variables = told_in_cell(outer)
    names = [
        word
        for key in variables
        if key.startswith(("UV_FIND", "UV_EXTRA", "UV_INDEX"))
        for word in variables[key].split()
    ]
    paths = [name.removeprefix("file://") for name in names]
    return [path for path in paths if path.startswith("/") and Path(path).is_dir()]


def _config(outer: Mapping[str, str]) -> dict[str, Any]:
    base = outer.get("XDG_CONFIG_HOME") or f"{outer.get('HOME', '/')}/.config"
    for path in (f"{base}/uv/uv.toml", "/etc/uv/uv.toml"):
        with contextlib.suppress(OSError, ValueError):
            text = Path(path).read_text()
            import tomllib

            loaded = tomllib.loads(text)
            return {**loaded, **loaded.get("pip", {})}
    return {}


async def run(
    *words: str, say: Callable[[str], None], extra: Mapping[str, str] | None = None
) -> Done:
    """Run `uv …` in a directory that belongs to no project."""
    variables = {**environ(os.environ), **(extra or {})}
    return await command.run([*command_words(), *words], environ=variables, cwd=Path("/"), say=say)


async def python(version: str | None, where: str) -> Python | None:
    """Return this machine's interpreter of that version, or None; homeport's own for no version."""
    ours = platform.python_version()
    check_version(version, where)
    if not version or _is(ours, version):
        return Python(path=sys.executable, version=ours)
    result = await run(
        *("python", "find", "--no-project", "--no-python-downloads", version),
        say=lambda _line: None,
    )
    path = _of_pyenv(version) if result.code else result.lines[-1]
    return await looked_at(path) if path else None


async def looked_at(path: str) -> Python:
    """Return an interpreter with its version in full."""
    code = "import platform; print(platform.python_version())"
    result = await asyncio.to_thread(
        subprocess.run, [path, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return Python(path=path, version=result.stdout.strip())


def _of_pyenv(version: str) -> str:
    """Return pyenv's interpreter of this version, also if pyenv's setting for this directory is another; empty for none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    pythons = [path for path in root.glob("*/bin/python") if _is(path.parts[-3], version)]
    numbers = {path: [int(n) for n in re.findall(r"\d+", path.parts[-3])] for path in pythons}
    return str(max(pythons, key=numbers.__getitem__)) if pythons else ""


def _is(version: str, version_wanted: str) -> bool:
    return f"{version}.".startswith(f"{version_wanted}.")


def check_version(version: str | None, where: str) -> None:
    """Raise `ImageError` for what is no version, or one that the runner does not run on."""
    if version and not _VERSION.fullmatch(version):
        # uv would take a path, and start the program that lies there: a file of an app, for example.
        raise ImageError(
            f"`{version[:100]}` is not a version of Python", where=where, hint='write `"3.12"`'
        )
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImageError(
            f"Python {version} is too old for homeport's runner",
            where=where,
            hint=f"{oldest} is the oldest that it runs on",
        )


def in_one_line(lines: Sequence[str]) -> str:
    """Return uv's message in one line: the failure and its nearest causes.

    >>> in_one_line(["error: Failed to parse: `a b`", "  cause: Expected one of `@`"])
    'Failed to parse: `a b`: Expected one of `@`'
    """
    title = ""
    causes: list[str] = []
    for line in lines:
        label, _, text = line.partition(": ")
        if label == "error":  # an indented one is a compiler's, or some other program's
            title, causes = text, []
        elif label in {"  cause", "  Caused by"}:
            causes.append(text)
    if title.startswith("No solution found") and causes:
        return causes[0]  # it names the packages
    if not title:
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return ": ".join([title, *causes[:2]])


def _main() -> None:
    try:
        words = command_words()
        done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
        answer = {"told": f"{done.stdout.strip()} at {' '.join(words)}"}
    except ImageError as failure:
        answer = {"error": failure.message, "hint": failure.hint}
    print(json.dumps(answer))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    _main()
