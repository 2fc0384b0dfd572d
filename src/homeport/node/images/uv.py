"""uv: where it is, which Pythons it finds, and what it says in one line when it fails.

`python -m homeport.node.images.uv` prints where it is, for `homeport doctor`.
"""

import asyncio
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeport.contract.errors import ImageError
from homeport.node.images import command
from homeport.node.images.command import Done

OLDEST = (3, 10)
#: What would lead uv to another interpreter or environment than the one that is meant.
_MISLEADING = ("HOMEPORT_", "MODAL_", "PYTHON", "VIRTUAL_ENV", "CONDA", "UV_PYTHON", "UV_PROJECT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter of this machine."""

    path: str
    version: str  # in full: 3.11.7

    @property
    def minor(self) -> str:
        """3.11"""
        return ".".join(self.version.split(".")[:2])

    def is_older_than(self, minor: tuple[int, int]) -> bool:
        """Whether it is; `minor` is such as (3, 11)."""
        return tuple(int(part) for part in self.minor.split(".")) < minor


def found() -> list[str]:
    """The words that begin uv's command; `ImageError` where there is none."""
    beside = Path(sys.executable).with_name("uv")
    # Ours first: it is the version that homeport was tried with.
    if os.access(beside, os.X_OK):
        return [str(beside)]
    if path := shutil.which("uv"):
        return [path]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise ImageError("images with steps are built by uv, and there is none", hint="pip install uv")


def environ(outer: Mapping[str, str]) -> dict[str, str]:
    """The variables that uv sees: the caller's, but for those that would mislead it."""
    kept = {k: v for k, v in outer.items() if not k.startswith(_MISLEADING)}
    # Else each first import of a package would compile it, and a start would wait for that.
    return {**kept, "NO_COLOR": "1", "UV_COMPILE_BYTECODE": "1"}


async def run(
    *words: str, say: Callable[[str], None], extra: Mapping[str, str] | None = None
) -> Done:
    """`uv …`, away from any project that this process may stand in."""
    told = {**environ(os.environ), **(extra or {})}
    return await command.run([*found(), *words], environ=told, cwd=Path("/"), say=say)


async def python(wanted: str | None, where: str) -> Python:
    """The interpreter of that version; homeport's own for None."""
    ours = platform.python_version()
    _check_age(wanted, where)
    if not wanted or _is(ours, wanted):
        return Python(path=sys.executable, version=ours)
    done = await run("python", "find", "--no-project", wanted, say=lambda _line: None)
    path = _of_pyenv(wanted) if done.code else done.lines[-1]
    if not path:
        raise ImageError(
            f"there is no Python {wanted} here",
            where=where,
            hint=f"`uv python install {wanted}`",
            traceback=done.text,
        )
    code = "import platform; print(platform.python_version())"
    told = await asyncio.to_thread(
        subprocess.run, [path, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return Python(path=path, version=told.stdout.strip())


def _of_pyenv(wanted: str) -> str:
    """An interpreter that pyenv has, though it is not the one of this directory; empty for none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [path for path in root.glob("*/bin/python") if _is(path.parts[-3], wanted)]
    numbers = {path: [int(n) for n in re.findall(r"\d+", path.parts[-3])] for path in found}
    return str(max(found, key=numbers.__getitem__)) if found else ""


def _is(version: str, wanted: str) -> bool:
    return f"{version}.".startswith(f"{wanted}.")


def _check_age(wanted: str | None, where: str) -> None:
    numbers = re.match(r"(\d+)\.(\d+)", wanted or "")
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImageError(
            f"Python {wanted} is too old for homeport's runner",
            where=where,
            hint=f"{oldest} is the oldest that it runs on",
        )


def in_one_line(lines: Sequence[str]) -> str:
    """What uv's message comes to: what failed, and its nearest causes.

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
        words = found()
        done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
        told = {"told": f"{done.stdout.strip()} at {' '.join(words)}"}
    except ImageError as failure:
        told = {"error": failure.message, "hint": failure.hint}
    print(json.dumps(told))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    _main()
