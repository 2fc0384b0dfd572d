"""A folder that looks like one of NVIDIA's driver: real shared libraries, built by gcc, and a program."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "580.95.05"
#: What the libraries answer: the fake driver's version, as a number.
ANSWER = 58095
SOURCE = f"int cuInit(unsigned flags) {{ return {ANSWER}; }}\n"
LIBRARIES = {
    "libcuda": "libcuda.so.1",
    "libnvidia-ml": "libnvidia-ml.so.1",
    "libnvidia-ptxjitcompiler": "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-nvvm": "libnvidia-nvvm.so.4",
    "libnvidia-gpucomp": f"libnvidia-gpucomp.so.{VERSION}",
}


def build(folder: Path, version: str = VERSION, *, links: bool = True) -> Path:
    """Make `lib64` and `bin` below a folder; return `lib64`. Skips the test without a compiler."""
    (libraries := folder / "lib64").mkdir(parents=True)
    (programs := folder / "bin").mkdir()
    first = libraries / f"libcuda.so.{version}"
    compiled(first, SOURCE, "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libcuda.so.1")
    for name, short in LIBRARIES.items():
        path = libraries / f"{name}.so.{version}"
        if not path.exists():
            shutil.copy(first, path)
        if links and short != path.name:
            (libraries / short).symlink_to(path.name)
    (libraries / "libnothing.so.1").write_bytes(first.read_bytes())  # not the driver's
    smi = programs / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho GPU 0: of driver {version}\n")
    smi.chmod(0o755)
    return libraries


def compiled(path: Path, source: str, *options: str) -> None:
    """Compile C."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc: apt-get install gcc libc6-dev")
    words = ["gcc", "-x", "c", "-O1", *options, "-o", str(path), "-"]
    subprocess.run(words, input=source, text=True, check=True)
    os.chmod(path, 0o755)
