"""The labels of a machine, such as `region=eu`: what they may be, and how they are written."""

import re
from collections.abc import Mapping, Sequence

from homeport.contract.errors import BadRequest

REGION = "region"  # the label that `@app.function(region=…)` is about
MOST = 20
_NAME = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,60}[a-z0-9])?")
_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,60}[A-Za-z0-9])?")


def read(text: str) -> dict[str, str]:
    """Return the labels in a text; `BadRequest` for a text that has none, or wrong ones.

    >>> read("region=eu,disk=ssd"), read("")
    ({'region': 'eu', 'disk': 'ssd'}, {})
    """
    chosen: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        name, is_given, value = word.partition("=")
        if not is_given:
            raise BadRequest(f"`{word[:100]}` is not a label", hint="write NAME=VALUE: `region=eu`")
        chosen[name] = value
    return check(chosen)


def written(labels: Mapping[str, str]) -> str:
    """Return labels as text.

    >>> written({"region": "eu", "disk": "ssd"})
    'disk=ssd,region=eu'
    """
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels))


def check(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels that a machine may have; `BadRequest` for any others."""
    if len(labels) > MOST:
        raise BadRequest(f"a machine has at most {MOST} labels")
    for name, value in labels.items():
        for text, pattern in ((name, _NAME), (value, _VALUE)):
            if not pattern.fullmatch(text):
                raise BadRequest(
                    f"`{name[:100]}={value[:100]}` is not a label",
                    hint="a name has lower-case letters, digits, `.`, `_`, `/` and `-`, and a value letters, digits, `.`, `_` and `-`",
                )
    return dict(labels)


def in_region(region: str, wanted: Sequence[str]) -> bool:
    """Return whether a machine of this region is in one of those that are wanted.

    >>> in_region("us-east", ("us",)), in_region("us-east", ("us-east-1", "eu")), in_region("", ("us",))
    (True, False, False)
    """
    return any(region == name or region.startswith(f"{name}-") for name in wanted)
