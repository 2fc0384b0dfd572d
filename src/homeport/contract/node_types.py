"""The types of machines that a Ray cluster could add, as the setting `ray_node_types` writes them.

Ray has no public way to ask for them (docs/decisions.md, 126), so the user writes them down:
    large: memory=131072; a100: memory=65536 gpu=A100-80GB:2 region=eu-west
The name is also that of a resource that Ray's configuration gives the type: `resources: {"CPU": 8, "a100": 1}`.
"""

import re
from collections.abc import Mapping

from homeport.contract import labels
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest

NEEDED = "types such as `large: cpu=32 memory=131072; a100: cpu=8 memory=65536 gpu=A100:2 region=eu-west` are needed"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_GPU = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,39})(?::([1-9][0-9]?))?")
_OF_RAY = {"cpu", "gpu", "tpu", "memory", "object_store_memory"}  # resources that every machine has


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """Machines that Ray could add, and what each of them has."""

    name: str  # also of the resource by which Ray tells it from others
    cpu: int = 1
    memory_mib: int = 0
    gpu: str = ""  # a model; empty: none
    gpus: int = 0
    region: str = ""  # the machine's label; empty: none


def read(text: str) -> tuple[NodeType, ...]:
    """Return the types in a text; `ValueError` with what is needed.

    >>> read("a100: cpu=8 memory=65536 gpu=A100:2 region=eu")[0].gpus
    2
    """
    kinds = tuple(_read(part.strip()) for part in text.split(";") if part.strip())
    if len({kind.name for kind in kinds}) < len(kinds):
        raise ValueError("each type needs a name of its own")
    return kinds


def _read(text: str) -> NodeType:
    name, _, resources = text.partition(":")
    words = dict(word.partition("=")[::2] for word in resources.split())
    if not _NAME.fullmatch(name) or not words or words.keys() - {"cpu", "memory", "gpu", "region"}:
        raise ValueError(NEEDED)
    if name.lower() in _OF_RAY:
        raise ValueError(f"a type cannot be called `{name}`, as a resource of Ray's")
    model, gpus = _gpus(words.get("gpu", ""))
    return NodeType(
        name=name,
        cpu=_whole(words, "cpu", least=1),
        memory_mib=_whole(words, "memory", least=0),
        gpu=model,
        gpus=gpus,
        region=_region(words.get("region", "")),
    )


def _gpus(text: str) -> tuple[str, int]:
    if not text:
        return "", 0
    if not (wish := _GPU.fullmatch(text)):
        raise ValueError("a model and a number of GPUs are needed, such as `gpu=A100-80GB:2`")
    return wish[1], int(wish[2] or 1)


def _whole(words: Mapping[str, str], key: str, *, least: int) -> int:
    text = words.get(key, str(least))
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ValueError(f"`{key}` needs a whole number" + (", of MiB" if key == "memory" else ""))
    return int(text)


def _region(text: str) -> str:
    try:
        return labels.check({labels.REGION: text})[labels.REGION] if text else ""
    except BadRequest as error:
        raise ValueError(error.message) from None
