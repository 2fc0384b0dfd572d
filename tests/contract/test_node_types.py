"""The setting `ray_node_types`: what it may say, and what is said of a wrong one."""

import pytest

from homeport.contract.errors import BadRequest
from homeport.contract.node_types import NodeType, read
from homeport.settings import load


def test_each_type_has_a_name_and_what_its_machines_have():
    text = " large: cpu=32 memory=131072; a100: cpu=8 memory=65536 gpu=A100-80GB:2 region=eu-west;"

    assert (
        NodeType(name="large", cpu=32, memory_mib=131072),
        NodeType(name="a100", cpu=8, memory_mib=65536, gpu="A100-80GB", gpus=2, region="eu-west"),
    ) == read(text)
    assert () == read("")


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("large", "types such as"),
        ("large cpu=4", "types such as"),
        ("a b: cpu=4", "types such as"),
        ("large: disk=4", "types such as"),
        ("large: cpu=0", "`cpu` needs a whole number"),
        ("large: memory=64GiB", "`memory` needs a whole number, of MiB"),
        ("large: gpu=:2", "a model and a number of GPUs"),
        ("large: gpu=A100:0", "a model and a number of GPUs"),
        ("large: region=a/b", "is not a label"),
        ("memory: cpu=4", "as a resource of Ray"),
        ("a: cpu=4; a: cpu=8", "a name of its own"),
    ],
)
def test_a_wrong_one_is_refused_with_what_is_needed(text, needed, tmp_path):
    with pytest.raises(ValueError, match=needed):
        read(text)
    with pytest.raises(BadRequest, match="HOMEPORT_RAY_NODE_TYPES is"):
        load({"HOMEPORT_HOME": str(tmp_path), "HOMEPORT_RAY_NODE_TYPES": text})
