"""Compiles Python files after a container serves, so that later starts need not.

Containers may not write beside the files that they import. So the node compiles them, once for all containers, at
idle priority and never before the first answer. No line of the compiled files is executed: the compiler's own
interpreter imports the standard library alone (`-I -S`), and where an image has a root file system it runs in a cell.

    environment     `__pycache__` beside the packages; `compiled` in its directory says that this is done
    image's root    one more layer on top, `pyc-<key>` in the store, which the next zygote of the image gets
    source tree     `__pycache__` beside the user's files, whose code names the place in the container
"""

import asyncio
import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from homeport import durable
from homeport.cell import identity, kernel
from homeport.cell.description import Bind, Cell, Network
from homeport.contract import codec
from homeport.contract.errors import Failure
from homeport.contract.image import HOME
from homeport.node.images import command, store
from homeport.node.images.made import Made
from homeport.node.images.owned import hands, within
from homeport.node.images.store import Say, Store

PATIENCE_S = 1800.0
CPU_S = 900
MEMORY_BYTES = 4 * 1024**3  # of addresses
LEFT_FREE_BYTES = 512 * 1024**2
MAX_PYC_BYTES = 16 * 1024**2
MAX_PYCS = 20_000  # of one source tree
DONE = "compiled"
GIVEN, OUT = "/run/homeport/source", "/run/homeport/out"
#: Its arguments: the prefix of a path, the prefix that replaces it, and directories; or `image`, for all packages.
CODE = f"""
import compileall, os, sys
try:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
    resource.setrlimit(resource.RLIMIT_CPU, ({CPU_S}, {CPU_S}))
except Exception:
    pass
old, new, *directories = sys.argv[1:]
assert all(path.startswith("/") for path in directories)
if old == "image":
    old = ""
    import site, sysconfig
    above = os.path.dirname(os.path.dirname(sys.executable))
    found = site.getsitepackages([sys.prefix, above]) + [sysconfig.get_path("stdlib")]
    directories = [path for path in dict.fromkeys(found) if os.path.isdir(path)]
for directory in directories:
    if directory == old and not sys.pycache_prefix:
        # From inside: a source tree that is renamed and deleted meanwhile would else be made again.
        os.chdir(directory)
        old = directory = "."
    places = dict(stripdir=old, prependdir=new) if old else dict()
    compileall.compile_dir(directory, maxlevels=50, quiet=2, workers=1, limit_sl_dest=directory, **places)
"""
WORDS = ("nice", "-n", "19")

log = logging.getLogger(__name__)


class Compiler:
    """Compiles in the background, one thing at a time; a container that comes before compiles for itself."""

    def __init__(self, layer_store: Store) -> None:
        self._store = layer_store
        self._begun: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def begin(self, image: Made, tree: str) -> None:
        """Compile an image's packages and the files of a source tree, unless that was begun before."""
        if (image.key, tree) not in self._begun:
            self._begun.add((image.key, tree))
            task = asyncio.create_task(self._compile(image, Path(tree)), name=f"compile {tree}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def has(self, image: Made) -> bool:
        """Return whether the image's packages are compiled."""
        return (image.directory / DONE).exists() or bool(
            store.read(image.directory).get("compiled")
        )

    async def close(self) -> None:
        """Compile no more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compile(self, image: Made, tree: Path) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if not await asyncio.to_thread(_is_compiled, tree):
                        await (self._tree_in_cell if image.lowers else _tree)(image, tree)
                    if image.directory.exists() and _has_room(image.directory):
                        await (self._layer if image.lowers else _packages)(image)
            except TimeoutError:
                log.warning("%s is not compiled: it takes too long", tree)
            except (Failure, OSError) as error:  # it may have been removed meanwhile
                log.info("%s is not compiled: %s", tree, error)

    # an image with a root file system

    async def _layer(self, image: Made) -> None:
        record = store.read(image.directory)
        if not record or record.get("compiled"):
            return
        name = f"pyc-{image.directory.name}"

        async def build(_tell: Say) -> None:
            directory = self._store.root / name
            step = await _run_in_cell(image, directory, ["-c", CODE, "image", ""])
            (step / within.STORAGE / "root" / "files").rename(directory / "files")
            await asyncio.to_thread(store.discard, directory / "step")
            await store.complete(directory, {"compiled_for": image.directory.name})

        async with self._store.needed([image.directory.name, name]):
            await self._store.once(name, build, lambda _line: None)
            await self._store.note(image.directory, compiled=name)

    async def _tree_in_cell(self, image: Made, tree: Path) -> None:
        name = f"compile-{secrets.token_hex(6)}"
        directory = self._store.root / name
        async with self._store.needed([name]):
            try:
                directory.mkdir(mode=0o700)
                words = ["-X", f"pycache_prefix={OUT}", "-c", CODE, GIVEN, HOME, GIVEN]
                bind = Bind(str(tree), GIVEN, owned=os.geteuid() == 0)
                step = await _run_in_cell(image, directory, words, (bind,))
                compiled_files = step / within.STORAGE / "root" / "files"
                await asyncio.to_thread(_take, compiled_files / f"{OUT}{GIVEN}".lstrip("/"), tree)
            finally:
                await asyncio.to_thread(store.remove, directory)


async def _run_in_cell(
    image: Made, directory: Path, words: list[str], binds: tuple[Bind, ...] = ()
) -> Path:
    """Run the image's own Python in a cell without a network; return the directory that it wrote to."""
    step = directory / "step"
    step.mkdir(mode=0o700)
    cell = Cell(
        layers=image.lowers,
        storage=str(step),
        binds=binds,
        ids=identity.own(),
        network=Network.NONE,
    )
    order = {
        "do": "run",
        "cell": codec.encode(cell),
        "commands": [["", [image.python, "-I", "-S", *words]]],
        "cwd": "/",
        "environ": dict(image.environ),
    }
    result = await hands.ask(order, before=WORDS)
    if result.code:
        raise OSError(0, result.text or f"it ended with exit code {result.code}")
    return step


# an environment of this machine


async def _tree(image: Made, tree: Path) -> None:
    await _run(image, str(tree), HOME, str(tree))


async def _packages(image: Made) -> None:
    if not store.read(image.directory) or (image.directory / DONE).exists():
        return
    packages = image.directory.glob("venv/lib/python*/site-packages")
    await _run(image, "", "", *map(str, packages), *filter(None, [image.runner_path]))
    await asyncio.to_thread(durable.sync_all, image.directory)
    (image.directory / DONE).touch()


async def _run(image: Made, *arguments: str) -> None:
    words = [*WORDS, image.python, "-I", "-S", "-c", CODE, *arguments]
    environ = {"PATH": os.environ.get("PATH", os.defpath)}
    await command.run(words, environ=environ, cwd=Path("/"), say=lambda _line: None)


def _has_room(path: Path) -> bool:
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize > LEFT_FREE_BYTES


def _is_compiled(tree: Path) -> bool:
    """Return whether each file of a tree has been compiled by some Python."""
    for folder, directories, files in os.walk(tree):
        uncompiled = {name[:-3] for name in files if name.endswith(".py")}
        if uncompiled:
            with contextlib.suppress(FileNotFoundError):
                cache = os.listdir(f"{folder}/__pycache__")  # noqa: PTH208 - names are enough
                uncompiled -= {name.partition(".")[0] for name in cache}
        if uncompiled:
            return False
        directories[:] = [name for name in directories if name != "__pycache__"]
    return True


# files that an image's own Python has written: they may be hostile


def _take(compiled_dir: Path, tree: Path) -> None:
    """Move compiled files beside their sources; whatever is not such a file stays where it is."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    top = os.open(tree, flags)
    count = 0
    try:
        for folder, relative, name in _compiled_files(compiled_dir):
            if (count := count + 1) > MAX_PYCS:
                return
            source = f"{name.partition('.')[0]}.py"
            with contextlib.suppress(OSError):
                target = kernel.open_in_root(top, f"/{relative}", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if stat.S_ISREG(os.stat(source, dir_fd=target, follow_symlinks=False).st_mode):
                        _copy(folder, target, name)
                finally:
                    os.close(target)
    finally:
        os.close(top)


def _compiled_files(compiled_dir: Path) -> Iterator[tuple[int, str, str]]:
    for path, _, files, folder in os.fwalk(compiled_dir):
        for name in files:
            if name.endswith(".pyc"):
                yield folder, str(Path(path).relative_to(compiled_dir)), name


def _copy(folder: int, target: int, name: str) -> None:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(opened, "rb") as file:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_PYC_BYTES:
            return
        content = file.read(MAX_PYC_BYTES)
    with contextlib.suppress(FileExistsError):
        os.mkdir("__pycache__", 0o755, dir_fd=target)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    cache = os.open("__pycache__", flags, dir_fd=target)
    try:
        fresh = f"{name}.{secrets.token_hex(4)}"
        with os.fdopen(
            os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=cache), "wb"
        ) as out:
            out.write(content)
        os.rename(fresh, name, src_dir_fd=cache, dst_dir_fd=cache)
    finally:
        os.close(cache)
