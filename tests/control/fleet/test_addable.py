"""What machines that Ray could add could run, and how much of one a container takes."""

import pytest

from homeport.contract import node_types
from homeport.contract.capacity import Capacity
from homeport.contract.manifest import FunctionSpec, VolumeMount
from homeport.control.fleet.addable import Addable

TYPES = node_types.read(
    "small: cpu=2 memory=4096; a100: cpu=8 memory=65536 gpu=A100-80GB:2; eu: cpu=4 memory=4096 region=eu-west"
)
HERE = Capacity(cores=2, memory_mib=2000, places=64)
IN_US = Capacity(cores=2, memory_mib=2000, places=64, region="us")


def function(**fields):
    return FunctionSpec(name="f", module="m", qualname="f", **fields)


def chosen(there: Capacity = HERE, *, share_volumes: bool = False, **fields) -> str:
    addable = Addable(types=TYPES, share_volumes=share_volumes)
    kind = addable.fitting(function(**fields), [there])
    return kind.name if kind else ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"memory_mib": (4000, None)}, "small"),
        ({"memory_mib": (8000, None)}, "a100"),
        ({"memory_mib": (80000, None)}, ""),
        ({"gpu": ("H100", "A100-80GB:2")}, "a100"),
        ({"gpu": ("A100:3",)}, ""),
        ({"gpu": ("A100-40GB",)}, ""),
        ({"block_network": True}, ""),
    ],
)
def test_the_first_type_that_has_all_is_chosen(fields, expected):
    assert expected == chosen(**fields)


def test_regions_count_as_soon_as_a_machine_has_one():
    assert "small" == chosen(region=("eu",))
    assert "eu" == chosen(IN_US, region=("eu",))
    assert "" == chosen(IN_US, region=("us",))


def test_a_new_machine_has_volumes_only_if_all_share_them():
    volumes = (VolumeMount(path="/v", name="v"),)

    assert "" == chosen(volumes=volumes)
    assert "small" == chosen(volumes=volumes, share_volumes=True)


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({}, 0.004),  # one of 256 places, as many for a core as here
        ({"cpu": (2.0, None)}, 0.25),
        ({"memory_mib": (32768, None)}, 0.5),
        ({"gpu": ("A100",)}, 0.5),
        ({"gpu": ("A100:2",), "memory_mib": (100, None)}, 1.0),
    ],
)
def test_a_container_takes_the_largest_of_its_shares_of_a_machine(fields, share):
    asked = Addable(types=TYPES).bundle(TYPES[1], function(**fields), [HERE])

    assert "a100" == asked.kind
    assert pytest.approx(share, abs=0.0001) == asked.share


def test_a_machine_is_of_the_type_whose_resource_it_has():
    addable = Addable(types=TYPES)

    assert TYPES[2] == addable.of(("CPU", "eu", "memory"))
    assert addable.of(("CPU", "GPU")) is None


def test_nothing_known_helps_what_a_present_machine_can_run():
    addable = Addable()

    assert addable.may_help(function(gpu=("L4",), memory_mib=(100, None)), [HERE])
    assert not addable.may_help(function(region=("us",)), [IN_US])
    assert not addable.may_help(function(volumes=(VolumeMount(path="/v", name="v"),)), [HERE])
