"""Finds the files of NVIDIA's driver on this machine, for containers with a root file system of their own.

The lists are those of NVIDIA's container toolkit for the capabilities `compute`, `utility` and `video`
(libnvidia-container, src/nvc_info.c). Without firmware, which only the kernel's module reads, and without libraries for graphics.
"""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from homeport.contract.dataclass import dataclass

NVML, CUDA = "libnvidia-ml", "libcuda"
#: name of a library -> the number in the name by which programs load it
LIBRARIES = {
    NVML: "1",
    CUDA: "1",
    "libcudadebugger": "1",
    "libnvcuvid": "1",
    "libnvidia-allocator": "1",
    "libnvidia-cfg": "1",
    "libnvidia-compiler": "",
    "libnvidia-encode": "1",
    "libnvidia-fatbinaryloader": "",
    "libnvidia-gpucomp": "",
    "libnvidia-nscq": "",
    "libnvidia-nvvm": "4",
    "libnvidia-nvvm70": "4",
    "libnvidia-opencl": "1",
    "libnvidia-opticalflow": "1",
    "libnvidia-pkcs11": "",
    "libnvidia-pkcs11-openssl3": "",
    "libnvidia-ptxjitcompiler": "1",
    "libnvidia-sandboxutils": "1",
    "libnvidia-tileiras": "",
}
PROGRAMS = (
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-debugdump",
    "nvidia-smi",
)
#: Directories where drivers are, after those that the loader of this machine knows.
FOLDERS = (
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    f"/usr/lib/{os.uname().machine}-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",  # NixOS
    "/home/kubernetes/bin/nvidia/lib64",  # Google's nodes
)
_NAME = re.compile(r"(?P<library>lib[\w-]+)\.so(\.(?P<version>[\d.]+))?")
_OF_DRIVER = re.compile(
    r"\d+\.\d+(\.\d+)?"
)  # such as 580.95.05; numbers of an interface have no dot
#: e_machine of ELF (man 5 elf), by the name that uname has.
MACHINES = {"x86_64": 62, "aarch64": 183}


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver's files: the name that a file has, and where it is on this machine."""

    version: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)  # `libcuda.so.580.95.05` -> path
    names: Mapping[str, str] = field(
        default_factory=dict
    )  # `libcuda.so.1` -> a file of `libraries`
    programs: Mapping[str, str] = field(default_factory=dict)

    def is_there(self) -> bool:
        """Return whether all of its files still exist."""
        paths = (*self.libraries.values(), *self.programs.values())
        return bool(paths) and all(map(os.path.isfile, paths))

    def has(self, library: str) -> bool:
        """Return whether programs can load a library, such as `libcuda`."""
        soname = f"{library}.so.{LIBRARIES[library]}".rstrip(".")
        return soname in self.names or soname in self.libraries


def find(
    environ: Mapping[str, str] = os.environ,
    folders: Sequence[str] = FOLDERS,
    *,
    cached: "Sequence[str] | None" = None,
) -> Driver:
    """Find the driver; an empty one if there is none. Blocks.

    Of each library the first one counts, in the order of the dynamic loader: LD_LIBRARY_PATH, its cache, its directories.
    `cached` are the directories that the cache names; None asks `ldconfig`.
    """
    named = [path for path in environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    cached_folders = _cached() if cached is None else cached
    order = [*dict.fromkeys((*named, *cached_folders, *folders))]
    files: dict[str, str] = {}
    names: dict[str, str] = {}
    for folder in order:
        for name, path in sorted(_libraries(folder)):
            base = Path(path).name
            if name in names or name in files:
                continue
            files.setdefault(base, path)
            if name != base:
                names[name] = base
    version = _version(files, names)
    files = {name: path for name, path in files.items() if _is_of(name, version)}
    names = {name: base for name, base in names.items() if base in files}
    names = {**_usual_names(files), **names}
    programs = {}
    beside = [str(Path(path).parent.parent / "bin") for path in files.values()]
    search = [*environ.get("PATH", os.defpath).split(":"), *beside, *(folders if files else ())]
    for name in PROGRAMS if files else ():
        if program := shutil.which(name, path=":".join(dict.fromkeys(search))):
            programs[name] = os.path.realpath(program)
    return Driver(version, files, names, programs)


def _libraries(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each name of a driver's library in a directory, with its real path.

    A link that leads to a file of another name is left out.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or match["library"] not in LIBRARIES:
                continue
            path = os.path.realpath(entry.path)
            real = _NAME.fullmatch(os.path.basename(path))  # noqa: PTH119 - a string, as all here
            if real and real["library"] == match["library"] and _is_library(path):
                yield entry.name, path


def _is_library(path: str) -> bool:
    """Return whether a file is a shared library for this machine's processor that every user may read."""
    with contextlib.suppress(OSError):
        status = os.stat(path)  # noqa: PTH116
        if not (stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH):
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(20)
        machine = int.from_bytes(head[18:20], sys.byteorder)
        is_64 = head[:5] == b"\x7fELF\x02"
        return is_64 and machine == MACHINES.get(os.uname().machine, machine)
    return False


def _version(files: Mapping[str, str], names: Mapping[str, str]) -> str:
    """The driver's version: that of the library which programs load."""
    for library in (CUDA, NVML):
        for name in (names.get(f"{library}.so.1"), *sorted(files, reverse=True)):
            match = _NAME.fullmatch(name or "")
            if (
                match
                and match["library"] == library
                and _OF_DRIVER.fullmatch(match["version"] or "")
            ):
                return str(match["version"])
    return ""


def _is_of(name: str, version: str) -> bool:
    """Return whether a file is of this version, or has no version in its name: there may be files of two drivers."""
    match = _NAME.fullmatch(name)
    version_of_file = (match and match["version"]) or ""
    return version_of_file == version or not version or not _OF_DRIVER.fullmatch(version_of_file)


def _usual_names(files: Mapping[str, str]) -> dict[str, str]:
    """Return the names by which programs load these files, for links that do not exist (`ldconfig` usually makes
    them).
    """
    links = {}
    for base in files:
        match = _NAME.fullmatch(base)
        number = LIBRARIES[match["library"]] if match else ""
        if match and number and (name := f"{match['library']}.so.{number}") not in files:
            links[name] = base
    return links


def _cached() -> list[str]:
    """Return the directories of the driver's libraries that the dynamic loader has in its cache."""
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', os.defpath)}:/sbin:/usr/sbin")
    if program is None:
        return []
    result = subprocess.run([program, "-p"], capture_output=True, text=True, check=False)
    paths = (line.rpartition(" => ")[2] for line in result.stdout.splitlines() if " => " in line)
    ours = (path for path in paths if Path(path).name.startswith((f"{CUDA}.so", f"{NVML}.so")))
    return [*dict.fromkeys(str(Path(path).parent) for path in ours)]
