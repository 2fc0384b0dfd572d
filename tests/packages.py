"""Small packages for the tests: a wheel with any files, and a source distribution whose build runs any code."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

#: It needs no package for its build, so that nothing is fetched.
_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "{name}"
version = "1.0"
"""
_BACKEND = """
import pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    found = {{}}
    exec({code!r}, {{"found": found}})
    path = pathlib.Path(directory) / "{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("{name}.py", f"found = {{found!r}}\\n")
        for name, text in {info!r}.items():
            wheel.writestr(name, text)
    return path.name
"""


def wheel(directory: Path, name: str, files: Mapping[str, str]) -> Path:
    """Write the wheel `name` 1.0 with these files."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in {**files, **_info(name)}.items():
            archive.writestr(place, text)
    return path


def sdist(directory: Path, name: str, code: str) -> Path:
    """Write the source distribution `name` 1.0.

    Its build runs `code`; what that puts into the dict `found` is `found` of the module `name`.
    """
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}-1.0.tar.gz"
    backend = _BACKEND.format(name=name, code=code, info=_info(name))
    described = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files = {
        "pyproject.toml": _PROJECT.format(name=name),
        "backend.py": backend,
        "PKG-INFO": described,
    }
    with tarfile.open(path, "w:gz") as tar:
        for place, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{place}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def _info(name: str) -> dict[str, str]:
    info = f"{name}-1.0.dist-info"
    return {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
