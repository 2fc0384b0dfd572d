"""The cells of this node: which directories each one shows, and which files a container gets when it starts.

    the node ──▶ `python -m homeport.cell` ──▶ pid 1 of a base cell ──▶ base zygote ──▶ a private cell for each container
                                                                          └──▶ nested cell ──▶ function zygote ──▶ …

The room `homeport.cell` makes cells; this file decides what they contain. The files that cells
write is in `<home>/run/cells/<base>/`, one directory for each private and each nested cell.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import site
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from homeport import removing
from homeport.cell import host, identity, report
from homeport.cell.description import Bind, Cell, Ids, Network
from homeport.cell.keeper import Opener
from homeport.cell.mounts import Access, Mount
from homeport.contract.container import CALLS, URLS, Launch
from homeport.contract.errors import BadRequest
from homeport.contract.image import HOME, Step, outside
from homeport.contract.sizes import MIB
from homeport.node.cells import trials
from homeport.node.cells.gpus import Gpus
from homeport.node.cells.networks import Networks, resolvers
from homeport.node.cells.sandbox import Handed, Sandbox
from homeport.node.cells.trees import Trees
from homeport.node.images.made import Made
from homeport.node.images.sealed import library
from homeport.node.limits import gpus as accelerators
from homeport.settings import Settings

AUTO, ON, OFF = "auto", "on", "off"
PACKAGE = Path(__file__).parents[2]
TMP = "/tmp"  # noqa: S108 - the cell's own
#: Variables that name files which a cell has to show.
TRUSTED = ("SSL_CERT_FILE", "SSL_CERT_DIR")

log = logging.getLogger(__name__)


class Cells:
    """Describes cells, and opens what goes into them."""

    def __init__(
        self,
        root: Path,
        lib: Path,
        limits_report: report.Report,
        gpus: Gpus | None = None,
    ) -> None:
        self._gpus = Gpus(accelerators.files(), root.parent) if gpus is None else gpus
        self.report = limits_report
        self.networks = Networks(limits_report)
        self.volumes = Path()  # the home's volumes; the agent sets it
        self.urls = Path()  # the ingress's socket for URLs; the agent sets it
        self._root, self._lib = root, lib
        self._used: set[Path] = set()
        self._has_worked = False
        self._root_user = os.getuid() == 0
        self._ids = identity.own()
        if limits_report.ids == 1:
            self._ids = None
        self._opener = Opener()

    @property
    def ids(self) -> Ids | None:
        """The users and groups of cells here; None: only one of each, which outside is this process's own."""
        return self._ids

    @staticmethod
    def open(
        isolation: str,
        root: Path,
        lib: Path,
        ask: "Callable[[Path], report.Report] | None" = None,
    ) -> "Cells | None":
        """Return the cells; None if they are off, or `auto` and impossible. If `on` is impossible, `BadRequest`. Blocks.

        `ask` returns the cells that this machine allows, for files in a directory.
        """
        if isolation == OFF:
            return None
        root.mkdir(parents=True, mode=0o700, exist_ok=True)
        allowed = (ask or trials.report_for)(root)
        if not allowed.possible:
            if isolation == ON:
                raise BadRequest(f"`isolation` is on, and {allowed.why}", hint=allowed.hint)
            log.warning("containers are not isolated: %s. Hint: %s", allowed.why, allowed.hint)
            return None
        return Cells(root, lib, allowed)

    def worked(self) -> None:
        """Keep the report for the next server, because a zygote has begun in a cell."""
        if not self._has_worked:
            self._has_worked = True
            trials.keep(self._root, self.report)

    def close(self) -> None:
        """End the keeper; the cells continue."""
        self._opener.close()

    def sandbox(self, image: Made) -> Sandbox:
        """Return a new base cell for an image, and make its storage."""
        storage = self._root / os.urandom(6).hex()
        storage.mkdir(mode=0o700)
        if image.lowers:
            return Sandbox(self._rooted(image, storage), storage, used=self._used)
        ours = [
            image.directory,
            Path(image.python).parent.parent,
            Path(image.runner_path or PACKAGE),
        ]
        binds = [
            Bind(str(path), owned=self._root_user)
            for path in (self._lib, *dict.fromkeys(ours))
            if path.is_dir()
        ]
        trusted = [path for name in TRUSTED if (path := os.environ.get(name, "")).startswith("/")]
        paths = [
            str(PACKAGE),
            *host.interpreter(image.python),
            *(library(image.python) if image.runner_path else imported_from(image.python)),
            *trusted,
            *self._gpus.folders,
        ]
        cell = dataclasses.replace(
            host.cell(paths, binds=binds),
            storage=str(storage),
            ids=self._ids,
            overlay=self.report.overlay,
            points=self._gpus.points,
        )
        return Sandbox(cell, storage, used=self._used)

    def _rooted(self, image: Made, storage: Path) -> Cell:
        """Describe a cell with an image's own root file system, and the parts of this machine that run functions."""
        ours = (self._lib, PACKAGE, image.runner_path)
        return Cell(
            binds=tuple(Bind(str(path), owned=self._root_user) for path in ours),
            layers=image.lowers,
            points=self._gpus.points,
            storage=str(storage),
            ids=self._ids,
            overlay=self.report.overlay,
        )

    def environ(self, environ: Mapping[str, str], image: Made) -> dict[str, str]:
        """Return the variables with the paths of a cell of this image."""
        users = {name: "root" for name in ("USER", "LOGNAME") if name in environ}
        variables = {**environ, **users, "HOME": HOME, "TMPDIR": TMP}
        if site.ENABLE_USER_SITE and "VIRTUAL_ENV" not in environ:
            variables.setdefault("PYTHONUSERBASE", site.getuserbase())  # it is not below /root
        return self._gpus.environ(variables) if image.lowers else variables

    def inside(self, launch: Launch) -> Launch:
        """Return the launch with the paths of a cell."""
        order = dataclasses.replace(launch.order, source=HOME)
        if launch.workdir:  # such as a Dockerfile's, which is no step of its own
            function, step = order.function, Step(name="workdir", args={"path": launch.workdir})
            image = dataclasses.replace(function.image, steps=(*function.image.steps, step))
            order = dataclasses.replace(order, function=dataclasses.replace(function, image=image))
        calls = CALLS if launch.calls else ""
        urls = URLS if self.network(launch) is Network.OWN else ""
        return dataclasses.replace(
            launch, order=order, tmp_dir="", cgroup="", calls=calls, ingress=urls
        )

    @contextlib.contextmanager
    def for_container(
        self, launch: Launch, output: int, zygote: int, *, rooted: bool = False
    ) -> Iterator[Handed]:
        """Return the data for the cell of this container, which the process `zygote` is about to fork."""
        with contextlib.ExitStack() as opened:
            trees = opened.enter_context(self._trees(zygote))
            source = launch.order.source
            trees.add_owned(source, Mount(HOME, Access.PRIVATE))
            if Path(elsewhere := outside(source)).is_dir():
                trees.add_owned(elsewhere, Mount("/", Access.MERGED))
            self._add_shared(trees, launch)
            links = self._gpus.add(trees, launch.order.devices, rooted=rooted)
            cgroup = []
            if launch.cgroup:
                # The permission of the process that opened the file counts, not of the one that writes (man 7
                # cgroups, cgroup.procs).
                flags = os.O_WRONLY | os.O_CLOEXEC
                cgroup = [os.open(f"{launch.cgroup}/cgroup.procs", flags)]
                opened.callback(os.close, cgroup[0])
            if self._root_user and self._ids is not None:
                os.fchown(output, self._ids.users[0][1], -1)  # its init opens the pipe once more
            request: dict[str, Any] = {
                "mounts": trees.request(),
                "cgroup": bool(cgroup),
                "network": self.network(launch).value,
                "hosts": self._names(launch),
                "links": links,
            }
            way = []
            if self.network(launch) is Network.OWN:
                request["resolvers"] = resolvers()
                way = [self.networks.connect(Path(launch.tmp_dir).parent)]
                opened.callback(os.close, way[0])
            yield Handed(request, (*trees.descriptors, *cgroup, *way))

    @contextlib.contextmanager
    def for_zygote(
        self, launch: Launch, zygote: int, *, writes: bool, rooted: bool = False
    ) -> Iterator[Handed]:
        """Return the data for the cell of a function's zygote or, if it `writes`, of a snapshot."""
        with self._trees(zygote) as trees:
            access = Access.PRIVATE if writes else Access.READ
            trees.add_owned(launch.order.source, Mount(HOME, access))
            if writes:  # its enter hooks are the user's code; a function's zygote runs none
                self._add_shared(trees, launch)
            # Packages such as CuPy cannot be imported without the driver's libraries.
            links = self._gpus.add_driver(trees) if rooted and launch.function.gpu else {}
            request = {
                "mounts": trees.request(),
                "links": links,
                "storage": f"{'s' if writes else 'f'}{os.urandom(6).hex()}",
                "writes": writes,
                "network": "none" if launch.function.block_network else "host",
            }
            yield Handed(request, tuple(trees.descriptors))

    def _add_shared(self, trees: Trees, launch: Launch) -> None:
        """Add its volumes, and the sockets of the ingress that it may connect to."""
        for volume in launch.function.volumes:
            trees.add_volume(str(self.volumes / volume.key), volume)
        if launch.calls:
            trees.add_socket(launch.calls, CALLS)
        if self.network(launch) is Network.OWN:
            trees.add_socket(str(self.urls), URLS)

    def _names(self, launch: Launch) -> list[str]:
        """Return the host names that resolve to the container's own loopback."""
        hosts = {urlsplit(url).hostname or "" for url in launch.order.urls.values()}
        inside = self.network(launch) is Network.OWN  # there the whole machine is out of reach
        return sorted(h for h in hosts if _is_name(h) and (inside or h.endswith(".localhost")))

    def network(self, launch: Launch) -> Network:
        """Return the network that a container can reach."""
        if launch.function.block_network:
            return Network.NONE
        if launch.function.ports and self.networks.connects:
            return Network.OWN
        return Network.HOST

    def remove(self, storage: str) -> None:
        """Delete a container's files, and empty directories above them that no zygote needs. Blocks."""
        path = Path(storage)
        self._opener.remove(str(path))
        while (path := path.parent) != self._root and path.is_relative_to(self._root):
            if path in self._used:
                return
            with contextlib.suppress(OSError):
                path.rmdir()

    def sweep(self, keep: Collection[str]) -> None:
        """Delete the storage of containers that have ended; `keep` names the storage of those that still run.
        Blocks.
        """
        running = [Path(storage) for storage in keep]
        for base in self._root.iterdir():
            inner = [path for path in running if path.is_relative_to(base)]
            if not inner:
                self._opener.remove(str(base))

    def disk_mib(self, storage: str) -> float:
        """Return how many MiB a container has written. Blocks."""
        return self._opener.measure(storage) / MIB

    @contextlib.contextmanager
    def _trees(self, zygote: int) -> Iterator[Trees]:
        """Return the trees for a child of a zygote, with the zygote's ids."""
        users = 0
        if self._root_user and self._ids is not None:
            users = os.open(f"/proc/{zygote}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        trees = Trees(self._opener, users)
        try:
            yield trees
        finally:
            trees.close()
            if users:
                os.close(users)


def _is_name(host: str) -> bool:
    return any(letter.isalpha() for letter in host) and ":" not in host


@functools.cache
def imported_from(python: str) -> tuple[str, ...]:
    """Return the directories that homeport's own interpreter imports from by default, with those that `.pth` files
    name.

    Python runs lines of `.pth` files, so this is never used for an environment with a user's packages.
    """
    words = [python, "-E", "-c", "import sys; print(*sys.path[1:], sep='\\n')"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return tuple(path for path in result.stdout.splitlines() if Path(path).is_dir())


def prepare(isolation: str) -> None:
    """Compute, before a cell needs it, where homeport's own interpreter imports from. Blocks."""
    if isolation != OFF:
        imported_from(sys.executable)


def take_over(settings: Settings, lib: Path, running: Mapping[int, str]) -> Cells | None:
    """Isolate containers if the settings ask for it; delete the leftovers of an earlier server. Blocks.

    `running` are the containers that still run: the pid of each one's init, and where it writes.
    """
    root = settings.run_dir / "cells"
    end_left(root, running)
    cells = Cells.open(settings.isolation, root, lib)
    if cells is not None:
        cells.sweep(running.values())
    elif not running:
        removing.discard(str(root))
    return cells


def end_left(root: Path, keep: Collection[int]) -> None:
    """End the processes of an earlier server's cells, except the containers with these inits.

    A container without a record would run for ever. Each process in a cell below `root` belongs to this
    home, and the cells' own processes cannot change their command lines.
    """
    mark = '"storage": ' + json.dumps(f"{root}/")[:-1]
    processes: dict[int, psutil.Process] = {}
    kept_pids = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(mark in word for word in process.cmdline()):
                for member in (process, *process.children(recursive=True)):
                    processes[member.pid] = member
    for pid in keep:
        with contextlib.suppress(psutil.Error):
            init = psutil.Process(pid)
            family = (init, *init.parents(), *init.children(recursive=True))
            kept_pids |= {member.pid for member in family}
    for pid, process in processes.items():
        if pid not in kept_pids:
            with contextlib.suppress(psutil.Error):
                process.kill()
