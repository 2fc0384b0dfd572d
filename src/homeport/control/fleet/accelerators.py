"""PURE: finds the devices for a function's `gpu="H100:2"`.

A wish is a model's name as its maker or Modal spells it (`L40S`, `a10g`, `RTX-4090`), or `any`, with a
memory size if a model has several (`A100-80GB`), a count (`:2`), and `!` for this model only.
"""

import re
from collections.abc import Sequence

from homeport.contract.capacity import Accelerator

ANY = "ANY"
#: Models that fit a wish too: other names of the model, and the newer model that Modal gives too.
ALSO = {"A10G": ("A10",), "A10": ("A10G",), "H100": ("H200",), "B200+": ("B200", "B300")}
SLACK = 0.15  # a device of 80 GB reports 79 to 81 GiB, a device of 24 GB reports 22.5


def choose(wishes: Sequence[str], devices: Sequence[Accelerator]) -> tuple[Accelerator, ...] | None:
    """Return the devices for the first wish that can be fulfilled; None if none can.

    >>> l4 = Accelerator(id="GPU-1", name="NVIDIA L4", memory_mib=23034)
    >>> choose(["H100", "L4"], [l4]) == (l4,)
    True
    >>> choose(["L40S"], [l4]) is None
    True
    """
    for wish in wishes:
        model, count = _read(wish)
        # The wished model before models that fit too.
        fitting = sorted(
            (device for device in devices if _fits(model, device)),
            key=lambda device: not _is(model, device),
        )
        if len(fitting) >= count:
            return tuple(fitting[:count])
    return None


def could_be(wish: str, device: Accelerator) -> bool:
    """Return whether the device fits the wish.

    >>> could_be("L4:2", Accelerator(id="GPU-1", name="NVIDIA L4", memory_mib=23034))
    True
    """
    return _fits(_read(wish)[0], device)


def in_words(devices: Sequence[Accelerator]) -> str:
    """Return the devices' names as text.

    >>> in_words([])
    'none'
    """
    names = [device.name for device in devices]
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _read(wish: str) -> tuple[str, int]:
    model, _, count = wish.strip().upper().partition(":")
    return model, int(count or 1)


def _fits(model: str, device: Accelerator) -> bool:
    exact = model.endswith("!")
    model = model.removesuffix("!")
    models = (model,) if exact else (model, *ALSO.get(model, ()))
    return any(_is(name, device) for name in models)


def _is(model: str, device: Accelerator) -> bool:
    """Return whether the device's name has all words of the model's name, and its memory has the size."""
    words = re.findall(r"[A-Z0-9]+", model)
    sizes = [int(word[:-2]) for word in words if re.fullmatch(r"\d+GB", word)]
    model_name = "".join(word for word in words if not re.fullmatch(r"\d+GB", word))
    if any(abs(device.memory_mib / 1024 - size) > SLACK * size for size in sizes):
        return False
    if model_name in ("", ANY):
        return True
    device_words = re.findall(r"[A-Z0-9]+", device.name.upper())
    return any(
        model_name == "".join(device_words[start:end])
        for start in range(len(device_words))
        for end in range(start + 1, len(device_words) + 1)
    )
