"""Checks `apt_install` where containers are not isolated: the machine must have the packages."""

import asyncio
import shutil
import subprocess

from homeport.contract.errors import ImageError
from homeport.contract.image import Image


async def check(image: Image) -> None:
    """Raise `ImageError` for the first `apt_install` with a package that this machine lacks."""
    for step in image.steps:
        if step.name != "apt_install":
            continue
        missing = await asyncio.to_thread(_missing, step.args.get("packages", []))
        if missing:
            told = ", ".join(f"`{name}`" for name in missing)
            raise ImageError(
                f"`apt_install` needs {told} on this machine, because containers are not isolated here",
                where=step.where,
                hint=f"`sudo apt-get install {' '.join(missing)}`; or `homeport doctor` says why they are not",
            )


def _missing(packages: list[str]) -> list[str]:
    # apt also takes a version or a release: `ffmpeg=7:5.1`, `ffmpeg/bookworm`.
    names = [package.partition("=")[0].partition("/")[0] for package in packages]
    if shutil.which("dpkg-query") is None:
        return names
    words = [
        "dpkg-query",
        "-W",
        "-f",
        "${Package} ${Package}:${Architecture} ${db:Status-Status}\n",
    ]
    done = subprocess.run([*words, *names], capture_output=True, text=True, check=False)
    there: set[str] = set()
    for line in done.stdout.splitlines():
        *called, status = line.split()
        if status == "installed":
            there |= {*called}
    return [name for name in names if name not in there]
