"""Which local files belong to an app, and what a container will find where.

The tree's root is the script's directory, or the one that holds the top package. It is the working
directory in the container, and stands for the original's `/root`.
"""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import ModuleType

from homeport.contract.errors import ScriptError
from homeport.contract.image import Image, Step
from homeport.contract.manifest import SourceFile
from homeport.sdk import patterns

MAX_FILE_BYTES = 1024**3
HOME = PurePosixPath("/root")


class Tree:
    """The files that travel, and where each comes from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, Path] = {}  # path in the tree -> local file

    def add(self, local: Path, path: str | None = None) -> None:
        """A local file, at its own place in the tree or at another."""
        self._files[path or local.relative_to(self.root).as_posix()] = local

    def add_image(self, image: Image) -> None:
        """What `add_local_*` steps name."""
        for step in image.steps:
            if step.name == "add_local_file":
                self.add(Path(step.args["local_path"]), place_of(step.args["remote_path"]))
            elif step.name == "add_local_dir":
                base = Path(step.args["local_path"])
                for local in patterns.files_below(base, step.args.get("ignore", [])):
                    place = PurePosixPath(step.args["remote_path"], local.relative_to(base))
                    self.add(local, place_of(str(place)))
            elif step.name == "add_local_python_source":
                self._add_modules(step)

    def files(self) -> tuple[tuple[SourceFile, ...], dict[str, str]]:
        """The manifest's files in order of path, and hash -> local path."""
        found, sources = [], {}
        for path, local in sorted(self._files.items()):
            status = local.stat()
            if status.st_size > MAX_FILE_BYTES:
                raise ScriptError(
                    f"{local} is larger than 1 GiB", hint="leave it out with `ignore=`"
                )
            digest = hashlib.sha256(local.read_bytes()).hexdigest()
            sources[digest] = str(local)
            found.append(
                SourceFile(
                    path=path,
                    sha256=digest,
                    size_bytes=status.st_size,
                    mode=0o755 if status.st_mode & 0o100 else 0o644,
                )
            )
        return tuple(found), sources

    def local_files(self) -> list[str]:
        """Every local file, for whoever watches them."""
        return sorted(str(path) for path in self._files.values())

    def _add_modules(self, step: Step) -> None:
        for name in step.args.get("modules", []):
            for local, base in module_files(name, step):
                self.add(local, local.relative_to(base).as_posix())


def imported_below(root: Path) -> Iterable[Path]:
    """The Python files below the root that this process has imported."""
    outside = {Path(p).resolve() for p in sysconfig.get_paths().values()}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(module, ModuleType) or not file or not file.endswith(".py"):
            continue
        if not os.path.abspath(file).startswith(f"{root}{os.sep}"):  # noqa: PTH100 - of very many
            continue
        path = Path(file).absolute()
        if module.__name__.partition(".")[0] == "homeport":
            continue
        inner = path.relative_to(root)
        if set(inner.parts) & patterns.JUNK or any(path.is_relative_to(p) for p in outside):
            continue
        if path.is_file():
            yield path


def package_files(directory: Path) -> list[Path]:
    """The Python files of a package."""
    return [path for path in patterns.files_below(directory) if path.suffix == ".py"]


def module_files(name: str, step: Step) -> list[tuple[Path, Path]]:
    """The files of a local module, each with the directory that it is imported from."""
    import importlib.util

    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ScriptError(f"there is no local module `{name}`", where=step.where)
    if spec.submodule_search_locations:
        found = []
        for location in spec.submodule_search_locations:
            base = Path(location)
            depth = name.count(".") + 1
            top = base.parents[depth - 1]
            found += [(path, top) for path in package_files(base)]
        return found
    assert spec.origin is not None
    path = Path(spec.origin)
    return [(path, path.parents[name.count(".")])]


def place_of(path: str) -> str:
    """Where in the tree a container's path is; one outside `/root` stays absolute."""
    pure = PurePosixPath(path)
    return pure.relative_to(HOME).as_posix() if pure.is_relative_to(HOME) else str(pure)
