"""Lists the accelerators of this machine, by NVIDIA's driver (NVML).

`python -m homeport.node.limits.gpus` prints their names and the driver's version and files, for `homeport doctor`.
"""

import contextlib
import ctypes
import importlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from homeport.contract.capacity import Accelerator
from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.node.limits import driver

DRIVER = "libnvidia-ml.so.1"
VISIBLE = "CUDA_VISIBLE_DEVICES"
# As NVIDIA's container toolkit shows them. Not `nvidia-cap1` and `nvidia-cap2`, which divide and watch all GPUs.
SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
MIG_MINORS = Path("/proc/driver/nvidia-caps/mig-minors")

CONTROL = Path("/dev/nvidiactl")

T = TypeVar("T")


def find(
    environ: Mapping[str, str] = os.environ, nvml: ModuleType | Any | None = None
) -> tuple[Accelerator, ...]:
    """Return every device that this process may use, in the driver's order; none without a driver.

    A device that is divided into MIG instances counts as these instances. `CUDA_VISIBLE_DEVICES` in `environ`
    selects devices, by index or by the beginning of an id.
    """
    return tuple(_visible(_answers(_devices, nvml), environ.get(VISIBLE)))


def used_mib(devices: Collection[str], nvml: ModuleType | Any | None = None) -> dict[str, int]:
    """Return how much memory of these accelerators programs use, by their ids; nothing without a driver."""
    return {device: mib for device, mib in _answers(_used, nvml) if device in devices}


@dataclass(frozen=True, slots=True)
class Files:
    """The device files through which programs speak with NVIDIA's driver."""

    shared: tuple[str, ...] = ()  # of the driver itself: every container with a GPU needs them
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # id of an accelerator -> its

    @property
    def all(self) -> tuple[str, ...]:
        """Every device file that a container may get."""
        return tuple(
            sorted({*self.shared, *(path for paths in self.own.values() for path in paths)})
        )

    def of(self, devices: Iterable[str]) -> tuple[str, ...]:
        """Return the device files of a container with these accelerators; none without accelerators."""
        theirs = {path for device in devices for path in self.own.get(device, ())}
        return tuple(sorted({*self.shared, *theirs})) if theirs else ()


def files(
    nvml: ModuleType | Any | None = None, directory: Path = Path("/dev"), minors: Path = MIG_MINORS
) -> Files:
    """Return the device files of this machine. A GPU's is `nvidia<minor>`, which need not be its index.

    An instance of a GPU also has a file for each of its two capabilities (MIG user guide, "Device nodes").
    """
    shared = tuple(str(directory / name) for name in SHARED if (directory / name).is_char_device())
    if not shared:
        return Files()
    capabilities = _capabilities(minors)
    own = {}
    for device, names in _answers(_nodes, nvml):
        paths = [directory / f"nvidia{names[0]}"]
        paths += [
            directory / "nvidia-caps" / f"nvidia-cap{capabilities[name]}"
            for name in names[1:]
            if name in capabilities
        ]
        own[device] = tuple(str(path) for path in paths if path.is_char_device())
    return Files(shared, own)


def _capabilities(minors: Path) -> dict[str, str]:
    """Return the minor number of each capability's file: lines such as `gpu0/gi1/ci0/access 12`."""
    with contextlib.suppress(OSError):
        return dict(line.split() for line in minors.read_text().splitlines() if " " in line)
    return {}


def _nodes(nvml: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each accelerator's id with its GPU's minor number and the names of its capabilities."""
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        minor = f"{nvml.nvmlDeviceGetMinorNumber(device)}"
        instances = list(_instances(nvml, device))
        for instance in instances:
            part = f"gpu{minor}/gi{nvml.nvmlDeviceGetGpuInstanceId(instance)}"
            inner = f"{part}/ci{nvml.nvmlDeviceGetComputeInstanceId(instance)}"
            yield (
                _text(nvml.nvmlDeviceGetUUID(instance)),
                (minor, f"{part}/access", f"{inner}/access"),
            )
        if not instances:
            yield _text(nvml.nvmlDeviceGetUUID(device)), (minor,)


def _used(nvml: Any) -> Iterator[tuple[str, int]]:
    """Yield each accelerator's id, and the memory that the programs on it use."""
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        for part in list(_instances(nvml, device)) or [device]:
            running = nvml.nvmlDeviceGetComputeRunningProcesses(part)
            used = [process.usedGpuMemory for process in running]
            if None in used:  # the driver may hide it; this number includes the driver's own use
                used = [nvml.nvmlDeviceGetMemoryInfo(part).used]
            yield _text(nvml.nvmlDeviceGetUUID(part)), sum(used) // MIB


def _answers(question: Callable[[Any], Iterator[T]], nvml: ModuleType | Any | None) -> list[T]:
    """Return the driver's answers to a question; none without a driver that works."""
    if nvml is None:
        if not _loads():  # try this first, because importing the module takes 30 ms
            return []
        nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return list(question(nvml))
    except nvml.NVMLError:
        return []
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _loads() -> bool:
    """Load the driver's library for this process, also from a directory that the loader does not know."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(DRIVER)
        return True
    if not (CONTROL.exists() and (there := driver.find())):
        return False
    path = there.libraries.get(there.names.get(DRIVER, DRIVER), "")
    with contextlib.suppress(OSError):
        return bool(path and ctypes.CDLL(path))  # pynvml asks for it by its short name, and gets it
    return False


def _devices(nvml: Any) -> Iterator[tuple[str, Accelerator]]:
    """Yield each device with its number."""
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        instances = list(_instances(nvml, device))
        for part, unit in enumerate(instances or [device]):
            number = f"{index}:{part}" if instances else f"{index}"
            yield (
                number,
                Accelerator(
                    id=_text(nvml.nvmlDeviceGetUUID(unit)),
                    name=_text(nvml.nvmlDeviceGetName(device)),
                    memory_mib=int(nvml.nvmlDeviceGetMemoryInfo(unit).total) // MIB,
                ),
            )


def _instances(nvml: Any, device: Any) -> Iterator[Any]:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(device)
    except nvml.NVMLError:  # a model without MIG
        return
    if not current:
        return
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        with contextlib.suppress(nvml.NVMLError):  # no device at this index
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)


def _visible(devices: list[tuple[str, Accelerator]], chosen: str | None) -> tuple[Accelerator, ...]:
    if chosen is None:
        return tuple(device for _, device in devices)
    selected = []
    for word in filter(None, (part.strip() for part in chosen.split(","))):
        selected += [
            d for n, d in devices if n == word or (len(word) > 3 and d.id.startswith(word))
        ]
    return tuple(selected)


def _text(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def summary() -> dict[str, Any]:
    """Return the facts that `homeport doctor` shows: devices, and whether a driver exists that shows none."""
    names, there = [device.name for device in find()], CONTROL.exists()
    files = driver.find() if names or there else driver.Driver()
    return {
        "names": names,
        "device_files": there,
        "version": files.version,
        "libraries": len(files.libraries),
        "programs": len(files.programs),
        "cuda": files.has(driver.CUDA),
    }


if __name__ == "__main__":
    print(json.dumps(summary()))  # noqa: T201 - it is the answer
