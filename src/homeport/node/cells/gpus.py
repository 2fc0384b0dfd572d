"""The parts of a GPU that a container sees: the device files, the driver's libraries and programs.

In a cell with this machine's /usr the driver is there already. In one with a root file system of its own,
its files are mounted one by one and read-only in /usr/local/nvidia, where images of `nvidia/cuda` expect them, and
have links where the image's loader and shell look without any variable (cell/links.py).
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from homeport.cell.links import LIBRARIES, PATHS, PROGRAMS
from homeport.cell.mounts import Mount
from homeport.node.cells.trees import Trees
from homeport.node.limits import driver
from homeport.node.limits.driver import Driver
from homeport.node.limits.gpus import Files

FOLDER = "/usr/local/nvidia"
PARAMETERS = "/proc/driver/nvidia/params"
SEARCH = "LD_LIBRARY_PATH"

#: kind -> name or path -> target
Links = dict[str, dict[str, str]]

log = logging.getLogger(__name__)


class Gpus:
    """The GPUs of this machine, as cells show them."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        *,
        find: Callable[[], Driver] = driver.find,
        parameters: str = PARAMETERS,
    ) -> None:
        """`directory` is for a file of ours; `parameters` is the file in which the driver's module publishes its
        parameters.
        """
        self._files = files
        self._find = find
        self._parameters = parameters
        self._ours = directory / "nvidia-params"
        self._driver = Driver()
        self._has_warned = False

    @property
    def points(self) -> tuple[str, ...]:
        """Every device file that a container may get."""
        return self._files.all

    @property
    def folders(self) -> tuple[str, ...]:
        """The driver's directories outside /usr, which a cell with this machine's files has to show."""
        if not self._files.shared:
            return ()
        paths = (*self._now().libraries.values(), *self._now().programs.values())
        directories = {str(Path(path).parent) for path in paths}
        return tuple(sorted(f for f in directories if not f.startswith(("/usr/", "/lib", "/bin"))))

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a root file system, with the driver's directory last in the loader's search.

        The links are enough for the loader. But a program may search by itself, as Triton does.
        """
        if not self._files.shared:
            return dict(environ)
        place = f"{FOLDER}/lib64"
        before = [part for part in environ.get(SEARCH, "").split(":") if part]
        return {**environ, SEARCH: ":".join(dict.fromkeys((*before, place)))}

    def add(self, trees: Trees, devices: Collection[str], *, rooted: bool) -> Links:
        """Add what a container with these devices sees; return the links for it (cell/links.py)."""
        if not (paths := self._files.of(devices)):
            return {}
        trees.add_devices(paths)
        if (ours := self._settled()) is not None:
            trees.add(str(ours), Mount(self._parameters))
        return self.add_driver(trees) if rooted else {}

    def add_driver(self, trees: Trees) -> Links:
        """Add the driver's files, without a device; return the links."""
        if not self._files.shared:
            return {}
        now = self._now()
        shown = set()
        for folder, files in (("lib64", now.libraries), ("bin", now.programs)):
            for name, path in files.items():
                try:
                    trees.add(path, Mount(f"{FOLDER}/{folder}/{name}"))
                except OSError as error:  # it has just been removed
                    log.warning("a container does not see %s: %s", path, error.strerror)
                else:
                    shown.add(name)
        names = {**{name: name for name in now.libraries}, **now.names}
        return {
            LIBRARIES: {n: f"{FOLDER}/lib64/{b}" for n, b in names.items() if b in shown},
            PROGRAMS: {n: f"{FOLDER}/bin/{n}" for n in now.programs if n in shown},
            PATHS: {f"{FOLDER}/lib64/{n}": b for n, b in now.names.items() if b in shown},
        }

    def _now(self) -> Driver:
        """Return the driver as it is now: a package may have replaced it while the server runs."""
        if not self._driver.is_there():
            self._driver = self._find()
            if not self._driver.has(driver.CUDA) and not self._has_warned:
                self._has_warned = True
                log.warning(
                    "the driver's `libcuda.so.1` is not found: GPUs are of no use in images"
                )
        return self._driver

    def _settled(self) -> Path | None:
        """Return a copy of the module's parameters, which says that libraries must not touch a container's device
        files.

        Without it the libraries find a file that root does not own here, and try to make it again, as root.
        """
        with contextlib.suppress(OSError):
            text = Path(self._parameters).read_text()
            changed = re.sub(r"(?m)^ModifyDeviceFiles: \d+$", "ModifyDeviceFiles: 0", text)
            if not self._ours.exists() or self._ours.read_text() != changed:
                fresh = self._ours.with_suffix(".new")
                fresh.write_text(changed)
                os.chmod(fresh, 0o644)  # noqa: PTH101 - its directory is not for everybody
                fresh.replace(self._ours)
            return self._ours
        return None
