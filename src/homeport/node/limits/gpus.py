"""Lists the accelerators of this machine, by NVIDIA's driver (NVML).

`python -m homeport.node.limits.gpus` prints their names, for `homeport doctor`.
"""

import contextlib
import ctypes
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from homeport.contract.capacity import Accelerator
from homeport.contract.sizes import MIB

DRIVER = "libnvidia-ml.so.1"
VISIBLE = "CUDA_VISIBLE_DEVICES"


def found(
    environ: Mapping[str, str] = os.environ, nvml: ModuleType | Any | None = None
) -> tuple[Accelerator, ...]:
    """Return every device that this process may use, in the driver's order; none without a driver.

    A device that is divided into MIG instances counts as these instances. `CUDA_VISIBLE_DEVICES` in `environ`
    selects devices, by index or by the beginning of an id.
    """
    if nvml is None:
        try:
            ctypes.CDLL(DRIVER)  # try this first, because importing the module takes 30 ms
        except OSError:
            return ()
        nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        return _visible(list(_devices(nvml)), environ.get(VISIBLE))
    except nvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def files(directory: Path = Path("/dev")) -> tuple[str, ...]:
    """The devices through which a program speaks with NVIDIA's driver; those of all GPUs together."""
    found = (*directory.glob("nvidia*"), *directory.glob("nvidia-caps/*"))
    return tuple(sorted(str(path) for path in found if path.is_char_device()))


def _devices(nvml: Any) -> Iterator[tuple[str, Accelerator]]:
    """Each with its number."""
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        instances = list(_instances(nvml, device))
        for part, each in enumerate(instances or [device]):
            number = f"{index}:{part}" if instances else f"{index}"
            yield (
                number,
                Accelerator(
                    id=_text(nvml.nvmlDeviceGetUUID(each)),
                    name=_text(nvml.nvmlDeviceGetName(device)),
                    memory_mib=int(nvml.nvmlDeviceGetMemoryInfo(each).total) // MIB,
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
        with contextlib.suppress(nvml.NVMLError):  # an empty place
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)


def _visible(devices: list[tuple[str, Accelerator]], chosen: str | None) -> tuple[Accelerator, ...]:
    if chosen is None:
        return tuple(device for _, device in devices)
    kept = []
    for word in filter(None, (part.strip() for part in chosen.split(","))):
        kept += [d for n, d in devices if n == word or (len(word) > 3 and d.id.startswith(word))]
    return tuple(kept)


def _text(told: str | bytes) -> str:
    return told.decode() if isinstance(told, bytes) else told


if __name__ == "__main__":
    print(json.dumps([each.name for each in found()]))  # noqa: T201 - it is the answer
