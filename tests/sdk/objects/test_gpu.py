"""The older way to name a GPU."""

import homeport as modal
from homeport.sdk import alias


def test_older_gpus_are_the_strings_of_today():
    gpu = alias.submodule("gpu")

    assert ["A100", "A100-80GB:2", "H100:8", "A10", "any"] == [
        gpu.A100(),
        gpu.A100(size="80GB", count=2),
        gpu.H100(count=8),
        gpu.A10G(),
        gpu.Any(),
    ]
    modal.App("x").function(gpu=gpu.A100(memory=80))
    assert modal.gpu is gpu
