"""Collects the local files of an app, and their paths in the container.

The tree's root is the script's directory, or the directory of the top package. It is the working directory
in the container, and corresponds to Modal's `/root`.
"""

import errno
import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import ModuleType

from homeport.contract import validate
from homeport.contract.errors import ScriptError
from homeport.contract.image import HOME, Image, Step
from homeport.contract.manifest import SourceFile
from homeport.contract.sizes import MIB
from homeport.sdk import watched
from homeport.sdk.files import patterns
from homeport.sdk.preload import loaded
from homeport.sdk.tracebacks import is_users

CHUNK_BYTES = MIB
MAX_NAMED = 5  # how many of the left-out files a notice names


class Tree:
    """The files that are uploaded with an app: their paths in the container and on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: list[str] = []  # notices about files that a step names and that are left out
        self._files: dict[str, Path] = {}  # path in the tree -> local file
        self._built: dict[str, Path] = {}  # SHA-256 -> local file that a step reads

    def add(self, local: Path, path: str | None = None) -> None:
        """Add a local file, at its own path in the tree or at `path`."""
        watched.add(local)
        self._files[path or local.relative_to(self.root).as_posix()] = local

    def add_image(self, image: Image) -> None:
        """Add the files that `add_local_*` steps of the image name."""
        for step in image.steps:
            try:
                if image.is_rooted and step.args.get("files"):
                    self._add_built(step)  # the file goes into a layer
                else:
                    self._add_step(step)
            except OSError as error:
                raise _unreadable(error, step.where) from None

    def _add_step(self, step: Step) -> None:
        if step.name == "add_local_file":
            self.add(Path(step.args["local_path"]), place_of(step.args["remote_path"]))
        elif step.name == "add_local_dir":
            base, left_out = Path(step.args["local_path"]), list[Path]()
            for local in patterns.files_below(base, step.args.get("ignore", []), left_out):
                place = PurePosixPath(step.args["remote_path"], local.relative_to(base))
                self.add(local, place_of(str(place)))
            self._leave_out(base, left_out, step)
        elif step.name == "add_local_python_source":
            self._add_modules(step)

    def build_files(self) -> tuple[tuple[SourceFile, ...], dict[str, str]]:
        """Return the files that the images' steps read, by hash, and SHA-256 -> local path."""
        files = []
        for sha256, local in sorted(self._built.items()):
            status = local.stat()
            mode = 0o755 if status.st_mode & 0o100 else 0o644
            files.append(
                SourceFile(path=sha256, sha256=sha256, size_bytes=status.st_size, mode=mode)
            )
        return tuple(files), {sha256: str(local) for sha256, local in self._built.items()}

    def _add_built(self, step: Step) -> None:
        places = {place_of(place): local for place, local in _copied(step)}
        for name, sha256 in step.args["files"].items():
            self._built[sha256] = places[name]

    def files(self) -> tuple[tuple[SourceFile, ...], dict[str, str]]:
        """Return the manifest's files in order of path, and SHA-256 -> local path."""
        files, sources = [], {}
        for path, local in sorted(self._files.items()):
            check_name(path, local)
            try:
                status = local.stat()
                if status.st_size > validate.MAX_FILE_BYTES:
                    raise ScriptError(
                        f"{local} is larger than 1 GiB", hint="leave it out with `ignore=`"
                    )
                sha256 = digest(local)
            except OSError as error:
                raise _unreadable(error, "") from None
            sources[sha256] = str(local)
            files.append(
                SourceFile(
                    path=path,
                    sha256=sha256,
                    size_bytes=status.st_size,
                    mode=0o755 if status.st_mode & 0o100 else 0o644,
                )
            )
        return tuple(files), sources

    def _leave_out(self, base: Path, paths: list[Path], step: Step) -> None:
        if not paths:
            return
        names = ", ".join(f"`{path.relative_to(base)}`" for path in paths[:MAX_NAMED])
        more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
        junk = next((path.name for path in paths if path.name in patterns.JUNK), "")
        how = f'; `ignore=["!**/{junk}"]` takes that in' if junk else ""
        self.left_out.append(f"{step.where}: left out of {base}: {names}{more}{how}")

    def _add_modules(self, step: Step) -> None:
        for name in step.args.get("modules", []):
            for local, base in module_files(name, step):
                self.add(local, local.relative_to(base).as_posix())


def _copied(step: Step) -> Iterable[tuple[str, Path]]:
    """Yield the path in the tree and the local path of each file that a step copies into a layer."""
    if "given" in step.args:
        yield from ((name, Path(path)) for name, path in step.args["given"].items())
    elif step.name == "add_local_file":
        yield step.args["remote_path"], Path(step.args["local_path"])
    elif step.name == "add_local_dir":
        base = Path(step.args["local_path"])
        for local in patterns.files_below(base, step.args.get("ignore", [])):
            yield str(PurePosixPath(step.args["remote_path"], local.relative_to(base))), local
    else:
        for name in step.args.get("modules", []):
            for local, base in module_files(name, step):
                yield local.relative_to(base).as_posix(), local


def imported_below(root: Path) -> Iterable[Path]:
    """Return the Python files below the root that this process has imported since `loaded.mark`."""
    outside = {Path(p).resolve() for p in sysconfig.get_paths().values()}
    for name in loaded.since_mark():
        module = sys.modules[name]
        file = getattr(module, "__file__", None)
        if not isinstance(module, ModuleType) or not file or not file.endswith(".py"):
            continue
        if not os.path.abspath(file).startswith(f"{root}{os.sep}"):  # noqa: PTH100 - of very many
            continue
        path = Path(os.path.abspath(file))  # noqa: PTH100 - without the `..` of an entry of `sys.path`
        if module.__name__.partition(".")[0] == "homeport":
            continue
        inner = path.relative_to(root)
        if set(inner.parts) & patterns.JUNK or any(path.is_relative_to(p) for p in outside):
            continue
        if path.is_file():
            yield path


def imported_elsewhere(root: Path, images: Iterable[Image]) -> list[str]:
    """Return notices about local modules outside the root: an image with its own packages does not have them."""
    own = [image for image in images if image.has_environment]
    steps = [step for image in own for step in image.steps]
    added = {n.partition(".")[0] for step in steps for n in step.args.get("modules", [])}
    files_by_top: dict[str, str] = {}
    for name in loaded.since_mark() if own else ():
        top, file = name.partition(".")[0], getattr(sys.modules[name], "__file__", None) or ""
        file = os.path.abspath(file) if file else ""  # noqa: PTH100 - without the `..` of an entry of `sys.path`
        if is_users(file) and not file.startswith(f"{root}{os.sep}") and file.endswith(".py"):
            files_by_top.setdefault(top, file)
    return [
        f"`{top}` is imported from {file}, which is not uploaded with the script: "
        f'add `.add_local_python_source("{top}")` to the image'
        for top, file in files_by_top.items()
        if top not in added and top != "__main__"
    ]


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hex; reads the file in parts, so it need not fit into memory."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        # A pipe or a device, which may have no end.
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    digest_of_file = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest_of_file.update(chunk)
    return digest_of_file.hexdigest()


def package_files(directory: Path) -> list[Path]:
    """Return the Python files of a package."""
    return [path for path in patterns.files_below(directory) if path.suffix == ".py"]


def package_folders(name: str) -> list[Path]:
    """Return the directories of a local package; none for a module that is a file, or does not exist."""
    import importlib.util

    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


def module_files(name: str, step: Step) -> list[tuple[Path, Path]]:
    """Return the files of a local module, each with the directory that it is imported from."""
    import importlib.util

    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ScriptError(f"there is no local module `{name}`", where=step.where)
    if spec.submodule_search_locations:
        files = []
        for location in spec.submodule_search_locations:
            base = Path(location)
            depth = name.count(".") + 1
            top = base.parents[depth - 1]
            inner = (
                patterns.files_below(base, step.args.get("ignore", ()))
                if step.args.get("whole")
                else package_files(base)
            )
            files += [(path, top) for path in inner]
        return files
    assert spec.origin is not None
    path = Path(spec.origin)
    return [(path, path.parents[name.count(".")])]


def check_name(path: str, local: Path) -> None:
    """Raise `ScriptError` for a path that is not text, so that no manifest can name it."""
    if path != path.encode(errors="replace").decode():
        raise ScriptError(
            f"the name of {str(local)!a} is not UTF-8 text",
            hint="rename the file, or leave it out with `ignore=`",
        )


def place_of(path: str) -> str:
    """Return the tree's path for a container's path; a path outside `/root` stays absolute."""
    pure = PurePosixPath(path)
    return pure.relative_to(HOME).as_posix() if pure.is_relative_to(HOME) else str(pure)


def _unreadable(error: OSError, where: str) -> ScriptError:
    if isinstance(error, IsADirectoryError):
        hint = "`add_local_dir` takes a directory"
    else:
        hint = "leave it out with `ignore=`, or give yourself permission to read it"
    return ScriptError(f"{error.filename} cannot be read: {error.strerror}", where=where, hint=hint)
