"""Which devices the node reports from the answers of NVIDIA's driver."""

import ctypes
import os
import stat
import types
from pathlib import Path

import pytest

from homeport.node.limits import driver, gpus
from tests.node.limits import libraries

GIB = 1024**3


class Driver:
    """NVML, as far as homeport uses it: two whole devices, and one device that is split in two."""

    class NVMLError(Exception):
        """The error that its functions raise."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.open = 0

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError("Driver/library version mismatch")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"MIG-{handle}" if isinstance(handle, str) else f"GPU-{handle}abc"

    def nvmlDeviceGetMinorNumber(self, index):
        return (2, 0, 1)[index]

    def nvmlDeviceGetGpuInstanceId(self, handle):
        return int(handle.partition(".")[2])

    def nvmlDeviceGetComputeInstanceId(self, _handle):
        return 0

    def nvmlDeviceGetName(self, index):
        return b"Tesla T4" if index == 0 else "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetMemoryInfo(self, handle):
        total = (40 if isinstance(handle, str) else 80) * GIB
        return types.SimpleNamespace(total=total, used=3 * GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        sizes = {0: [GIB, 2 * GIB], 1: [None]}.get(handle, [])
        return [types.SimpleNamespace(pid=1, usedGpuMemory=size) for size in sizes]

    def nvmlDeviceGetMigMode(self, index):
        if index == 0:
            raise self.NVMLError("Not Supported")
        return index == 2, 0

    def nvmlDeviceGetMaxMigDeviceCount(self, _index):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, index, part):
        if part > 1:
            raise self.NVMLError("Not Found")
        return f"{index}.{part}"


def test_every_device_and_each_instance_of_one_that_is_cut():
    driver = Driver()
    devices = gpus.find({}, driver)

    assert ["GPU-0abc", "GPU-1abc", "MIG-2.0", "MIG-2.1"] == [device.id for device in devices]
    assert ["Tesla T4", *["NVIDIA H100 80GB HBM3"] * 3] == [device.name for device in devices]
    assert [81920, 81920, 40960, 40960] == [device.memory_mib for device in devices]
    assert 0 == driver.open


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("1", ["GPU-1abc"]),
        ("GPU-1a,0", ["GPU-1abc", "GPU-0abc"]),
        ("2:1", ["MIG-2.1"]),
        ("", []),
        ("-1", []),
    ],
)
def test_a_server_may_have_some_of_them(visible, ids):
    assert ids == [device.id for device in gpus.find({"CUDA_VISIBLE_DEVICES": visible}, Driver())]


def test_a_driver_that_does_not_work_has_none():
    assert () == gpus.find({}, Driver(broken=True))


@pytest.fixture
def devices(tmp_path):
    """A directory as /dev is, and what NVIDIA's kernel module tells of capabilities."""
    (tmp_path / "nvidia-caps").mkdir()
    caps = [f"nvidia-caps/nvidia-cap{number}" for number in (1, 2, 3, 4, 5, 6)]
    numbers = ("nvidia2", "nvidia0", "nvidia1")
    for name in (*numbers, "nvidiactl", "nvidia-uvm", *caps, "null"):
        os.mknod(tmp_path / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    lines = ("config 1", "monitor 2", "gpu1/gi0/access 3", "gpu1/gi0/ci0/access 4")
    lines += ("gpu1/gi1/access 5", "gpu1/gi1/ci0/access 6")
    (tmp_path / "mig-minors").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make a device")
def test_a_container_has_the_files_of_its_own_accelerators_alone(devices):
    files = gpus.files(Driver(), devices, devices / "mig-minors")

    def of(*ids: str) -> list[str]:
        return [str(Path(path).relative_to(devices)) for path in files.of(ids)]

    driver = ["nvidia-uvm", "nvidiactl"]
    assert ["nvidia-uvm", "nvidia2", "nvidiactl"] == of("GPU-0abc")  # its minor is not its index
    assert ["nvidia-uvm", "nvidia0", "nvidia2", "nvidiactl"] == of("GPU-0abc", "GPU-1abc")
    assert ["nvidia-caps/nvidia-cap3", "nvidia-caps/nvidia-cap4", *driver] == [
        name for name in of("MIG-2.0") if name != "nvidia1"
    ]
    assert [] == of("GPU-unknown")
    assert [] == of()
    assert not {"nvidia-cap1", "nvidia-cap2"} & {Path(path).name for path in files.all}


def test_a_machine_without_a_driver_has_no_files(tmp_path):
    assert gpus.Files() == gpus.files(Driver(), tmp_path)


def test_doctor_hears_what_is_there(monkeypatch):
    there = driver.Driver(
        "580.95.05", {"libcuda.so.580.95.05": "/x"}, {"libcuda.so.1": "libcuda.so.580.95.05"}
    )
    monkeypatch.setattr(
        gpus, "find", lambda: gpus._visible(gpus._answers(gpus._devices, Driver()), "0")
    )
    monkeypatch.setattr(driver, "find", lambda: there)
    summary = gpus.summary()

    assert ["Tesla T4"] == summary["names"]
    assert ("580.95.05", 1, 0, True) == tuple(
        summary[k] for k in ("version", "libraries", "programs", "cuda")
    )


def test_the_drivers_library_is_loaded_from_where_the_loader_does_not_look(tmp_path, monkeypatch):
    folder = libraries.build(tmp_path / "nvidia")
    there = driver.find({}, [str(folder)], cached=[])
    monkeypatch.setattr(gpus, "DRIVER", "libnvidia-ml.so.1")
    monkeypatch.setattr(gpus, "CONTROL", tmp_path)
    monkeypatch.setattr(driver, "find", lambda: there)

    assert gpus._loads()
    monkeypatch.setattr(gpus, "CONTROL", tmp_path / "none")
    assert gpus._loads() == _is_loadable("libnvidia-ml.so.1")


def _is_loadable(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def test_the_memory_that_programs_use_is_told_by_device():
    wanted = {"GPU-0abc", "GPU-1abc"}

    assert {"GPU-0abc": 3 * 1024, "GPU-1abc": 3 * 1024} == gpus.used_mib(wanted, Driver())
    assert {"GPU-0abc": 3 * 1024} == gpus.used_mib({"GPU-0abc"}, Driver())
    assert {} == gpus.used_mib(wanted, Driver(broken=True))
