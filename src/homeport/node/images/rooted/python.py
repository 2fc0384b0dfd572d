"""Finds the Python of a root file system, checks that the runner can run on it, and fetches one for images without."""

import asyncio
import json
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.node.images import uv
from homeport.node.images.uv import OLDEST

OLDEST_GLIBC = (2, 17)
#: The oldest glibc that the runner's packages run on.
WHEELS = f"{platform.machine()}-manylinux2014"
PLACE = "usr/local"  # as in the images that the original's `debian_slim` is made from
#: A file beside the standard library, for which pip installs nothing there. uv and Debian write it. A Python that
#: homeport lays into an image has none, as in the original's images: `run_commands("pip install …")` works.
MARKER = "EXTERNALLY-MANAGED"
LOOK = (
    "import json,os,platform,sys,sysconfig\n"
    "try: libc=os.confstr('CS_GNU_LIBC_VERSION')\n"
    "except Exception: libc=''\n"
    f"held=os.path.exists(os.path.join(sysconfig.get_path('stdlib') or '/','{MARKER}'))\n"
    "print(json.dumps({'path':sys.executable,'version':platform.python_version(),'libc':libc or '','held':held}))"
)
#: Run by the image's shell; the first of `python3` and `python` on its PATH answers.
SEARCH = (
    'for name in python3 python; do found=$(command -v $name) && exec "$found" -I -c "$LOOK"; done; '
    "exit 90"
)
NONE, NO_SHELL = 90, 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """An interpreter in a root file system."""

    path: str  # there
    version: str  # in full
    #: Its packages belong to the system, so installers need an option to change them.
    held: bool = False

    @property
    def minor(self) -> str:
        """3.11"""
        return ".".join(self.version.split(".")[:2])


def judged(code: int, lines: Sequence[str], where: str) -> Inside:
    """Return the interpreter that the search has found; `ImageError` if no container can use it."""
    hint = 'let homeport lay one into it: `add_python="3.12"`'
    if code == NONE:
        raise ImageError("the image has no Python", where=where, hint=hint)
    try:
        # A loader or a shell may have printed lines too.
        answer = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
        path, version, libc = str(answer["path"]), str(answer["version"]), str(answer["libc"])
    except (StopIteration, ValueError, KeyError, TypeError):
        if code == NO_SHELL:
            reason = "the image has no shell to look for its Python with"
        else:
            reason = "the image's Python does not run"
        raise ImageError(reason, where=where, hint=hint, traceback="\n".join(lines)) from None
    if _numbers(version, where) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImageError(
            f"the image's Python is {version}, and {oldest} is the oldest that the runner runs on",
            where=where,
            hint=hint,
        )
    check_libc(libc, where)
    return Inside(path=path, version=version, held=bool(answer.get("held")))


def check_libc(libc: str, where: str) -> None:
    """Raise an error for a libc on which the runner's packages do not run; `libc` is such as `glibc 2.36`."""
    name, _, version = libc.partition(" ")
    if name != "glibc":
        raise ImageError(
            "the image's C library is not glibc (Alpine has musl), and the runner needs it",
            where=where,
            hint="take a tag that is made from Debian or Ubuntu, such as `python:3.12-slim`",
        )
    if _numbers(version, where) < OLDEST_GLIBC:
        oldest = ".".join(map(str, OLDEST_GLIBC))
        raise ImageError(
            f"the image's glibc is {version}, and {oldest} is the oldest that the runner runs on",
            where=where,
            hint="take a newer tag of it",
        )


async def standalone(version: str, keep: Path, where: str) -> tuple[Path | None, str]:
    """Return the directory of a Python that runs anywhere, fetched by uv once; or None, and uv's message.

    uv takes them from python-build-standalone, or from where `UV_PYTHON_INSTALL_MIRROR` says.
    """
    uv.check_version(version, where)
    extra = {"UV_PYTHON_INSTALL_DIR": str(keep), "UV_PYTHON_PREFERENCE": "only-managed"}
    installed = await uv.run(
        "python", "install", "--no-bin", version, say=lambda _line: None, extra=extra
    )
    if installed.code:
        return None, uv.in_one_line(installed.lines)
    located = await uv.run(
        "python", "find", "--no-project", version, say=lambda _line: None, extra=extra
    )
    if located.code or not located.lines:
        return None, uv.in_one_line(located.lines)
    return await asyncio.to_thread(_home, Path(located.lines[-1])), ""


def _home(python: Path) -> Path:
    return python.resolve().parents[1]


def _numbers(version: str, where: str) -> tuple[int, int]:
    """Return the first two numbers of a version, which the image says itself; `ImageError` if it has none."""
    if (match := re.match(r"(\d{1,9})\.(\d{1,9})", version, re.ASCII)) is None:
        raise ImageError(f"the image's Python says that a version is {version[:40]!r}", where=where)
    return int(match[1]), int(match[2])
