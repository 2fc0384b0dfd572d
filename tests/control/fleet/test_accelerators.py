"""Which devices a function's `gpu` option chooses."""

import pytest

from homeport.contract.capacity import Accelerator
from homeport.control.fleet import accelerators

NAMES = {
    "t4": ("Tesla T4", 15360),
    "l4": ("NVIDIA L4", 23034),
    "l40s": ("NVIDIA L40S", 46068),
    "a10g": ("NVIDIA A10G", 23028),
    "a100-40": ("NVIDIA A100-SXM4-40GB", 40960),
    "a100-80": ("NVIDIA A100 80GB PCIe", 81920),
    "h100": ("NVIDIA H100 80GB HBM3", 81559),
    "h200": ("NVIDIA H200", 143771),
    "b200": ("NVIDIA B200", 183359),
    "4090": ("NVIDIA GeForce RTX 4090", 24564),
    "pro6000": ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887),
}


def devices(*keys: str) -> list[Accelerator]:
    """Devices by their short names, each with an id of its own."""
    return [
        Accelerator(id=f"GPU-{n}", name=NAMES[key][0], memory_mib=NAMES[key][1])
        for n, key in enumerate(keys)
    ]


@pytest.mark.parametrize(
    ("wish", "key"),
    [
        ("T4", "t4"),
        ("l4", "l4"),
        ("L40S", "l40s"),
        ("A10", "a10g"),
        ("a10g", "a10g"),
        ("A100", "a100-40"),
        ("A100-40GB", "a100-40"),
        ("A100-80GB", "a100-80"),
        ("H100", "h100"),
        ("H100!", "h100"),
        ("H200", "h200"),
        ("B200+", "b200"),
        ("RTX-4090", "4090"),
        ("RTX4090", "4090"),
        ("RTX-PRO-6000", "pro6000"),
        ("any", "t4"),
        ("any:3", "t4"),
    ],
)
def test_a_wish_means_the_model_that_it_names(wish, key):
    there = devices(*NAMES)
    chosen = accelerators.choose([wish], there)

    assert chosen is not None
    assert NAMES[key][0] == chosen[0].name
    assert int(wish.partition(":")[2] or 1) == len({device.id for device in chosen})


@pytest.mark.parametrize(
    ("wish", "there"),
    [
        ("L4", ["l40s"]),
        ("L40S", ["l4"]),
        ("A10", ["a100-40"]),
        ("A100", ["a10g"]),
        ("A100-80GB", ["a100-40"]),
        ("A100-40GB", ["a100-80"]),
        ("H100!", ["h200"]),
        ("H200", ["h100"]),
        ("H100:2", ["h100"]),
        ("any", []),
    ],
)
def test_a_model_that_was_not_asked_for_is_never_chosen(wish, there):
    assert accelerators.choose([wish], devices(*there)) is None


def test_a_list_is_in_order_of_preference_and_a_newer_model_comes_last():
    assert "NVIDIA L4" == accelerators.choose(["H100:8", "L4"], devices("h100", "l4"))[0].name
    assert "NVIDIA H200" == accelerators.choose(["H100"], devices("l4", "h200"))[0].name
    assert "NVIDIA H100 80GB HBM3" == accelerators.choose(["H100"], devices("h200", "h100"))[0].name


def test_devices_are_described_by_number_and_model():
    assert "2 NVIDIA L4, 1 Tesla T4" == accelerators.in_words(devices("l4", "t4", "l4"))
