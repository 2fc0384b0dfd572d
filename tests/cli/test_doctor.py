"""What `homeport doctor` says of GPUs."""

import json
import subprocess

import pytest

from homeport.cli import doctor

H100 = "NVIDIA H100 80GB HBM3"
WHOLE = {
    "names": [H100],
    "device_files": True,
    "version": "580.95.05",
    "libraries": 13,
    "programs": 4,
    "cuda": True,
}


@pytest.mark.parametrize(
    ("told", "good", "text"),
    [
        (WHOLE, True, f"{H100}; driver 580.95.05: 13 libraries and 4 programs for images"),
        ({**WHOLE, "cuda": False}, False, f"{H100}; driver 580.95.05, without `libcuda.so.1`"),
        (
            {**WHOLE, "names": []},
            False,
            "there is `/dev/nvidiactl`, but the driver answers nothing",
        ),
        ({"names": [], "device_files": False}, True, "none"),
    ],
)
def test_gpus_with_their_driver(monkeypatch, told, good, text):
    def asked(_module: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess([], 0, stdout=json.dumps(told))

    monkeypatch.setattr(doctor, "_run_module", asked)
    finding = doctor._gpus()

    assert (good, text) == (finding.good, finding.text)
    assert good or finding.hint
    assert good or not finding.needed  # homeport works without
