"""Removes credentials and secrets from a captured request, before it is stored. A pure function.

Fields with credentials go altogether; the values of the function's secrets are hidden as in the logs of builds
(`hidden.py`), and so is the value of a parameter whose name tells that it is secret: of the request's URL, and of URLs in
fields, such as `Referer` and `Location`. A body that is compressed is not kept, because nothing can be found in it.
"""

import dataclasses
import re
from collections.abc import Collection

from homeport.contract.captured import Captured, Fields, Message
from homeport.hidden import HIDDEN, Hider

#: Names of fields that hold credentials.
EXACT = frozenset(
    ("authorization", "proxy-authorization", "cookie", "set-cookie", "modal-key", "modal-secret")
)
#: Parts of names that show a credential: `X-Api-Key`, `X-Auth-Token`, `X-Amz-Security-Token`, `X-Hub-Signature`.
TELLING = re.compile(
    r"api[-_]?key|token|secret|passw|auth|session|signature|credential|cookie|jwt|(^|[-_])key$",
    re.IGNORECASE,
)
#: Of the ingress and of this hop; a request that is sent again gets new ones.
PASSING = frozenset(("x-homeport-method", "x-homeport-hops", "connection", "transfer-encoding"))
#: Where the parameters of a URL begin; `%3F` begins those of a URL that is a parameter itself.
_BEGIN = re.compile(r"[?#;]|%3F", re.IGNORECASE)
#: What stands between names and values. Splitting takes linear time, also for a long text without any of these.
_BETWEEN = re.compile(r"([&=?#;]|%3D|%3F|%26)", re.IGNORECASE)


def redacted(captured: Captured, values: Collection[str], names: Collection[str]) -> Captured:
    """Return it without credentials; `values` are secrets, `names` more fields to remove, in lower case."""
    removed: list[str] = []
    return dataclasses.replace(
        captured,
        target=_hidden(_without_parameters(captured.target), values),
        request=_message(captured.request, values, names, removed),
        response=_message(captured.response, values, names, removed),
        removed=tuple(sorted(set(removed))),
    )


def _message(
    message: Message, values: Collection[str], names: Collection[str], removed: list[str]
) -> Message:
    fields: list[tuple[str, str]] = []
    for name, value in message.fields:
        low = name.lower()
        if low in EXACT or low in names or TELLING.search(low):
            removed.append(low)
        elif low not in PASSING:
            fields.append((name, _hidden(_without_parameters(value), values)))
    body, cut = message.body, message.cut
    if _is_encoded(message.fields) and body:
        body, cut = b"", True
    text = body.decode("utf-8", "surrogateescape")
    return Message(
        fields=tuple(fields),
        body=_hidden(text, values).encode("utf-8", "surrogateescape"),
        body_bytes=message.body_bytes,
        cut=cut,
    )


def _is_encoded(fields: Fields) -> bool:
    return any(
        name.lower() == "content-encoding" and value.strip().lower() not in ("", "identity")
        for name, value in fields
    )


def _without_parameters(text: str) -> str:
    """Return a URL, or a field with URLs, without the values of parameters whose names tell that they are secret."""
    begin = _BEGIN.search(text)
    if begin is None:
        return text
    shown, is_secret = [text[: begin.start()]], False
    parts = _BETWEEN.split(text[begin.start() :])
    for before, part in zip(["", *parts], parts, strict=False):
        is_secret = is_secret and part != "&"
        if is_secret:
            continue
        shown.append(part)
        if part.upper() in ("=", "%3D") and TELLING.search(before):
            shown.append(HIDDEN)
            is_secret = True
    return "".join(shown)


def _hidden(text: str, values: Collection[str]) -> str:
    if not text or not values:
        return text
    return "\n".join(Hider(values).hide_all(text.split("\n")))
