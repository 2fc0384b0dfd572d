"""Calls: the words that a caller, the ingress and a container use on the wire.

A call is an HTTP request on the ingress's Unix socket `calls`:

    POST / HTTP/1.1
    X-Homeport-Call: call-<32 hex>                the endpoint: see `endpoint_id`
    X-Homeport-Python: 3.12                       the caller's Python
    Content-Type: application/x-homeport-pickle   a pickle of (args, kwargs)
              or: application/json                {"args": [], "kwargs": {}}

The container answers 200, and `X-Homeport-Outcome` says what the body is: `value` (a pickle; JSON if the call was
JSON), `error` (see `Failed`), or `stream`: the values of a generator, each in a frame (see `frame`). Every other
status is a refusal by the ingress or the container, with one line of text.
"""

import hashlib
import json

from homeport.contract.dataclass import dataclass

PICKLE, JSON = "application/x-homeport-pickle", "application/json"
CALL = "X-Homeport-Call"
PYTHON = "X-Homeport-Python"
# In a request for the control plane: the key of the caller's environment, which only its containers have.
KEY = "X-Homeport-Key"
# In a request over the API: the environment that it is for.
ENVIRONMENT = "Homeport-Environment"
OUTCOME = "X-Homeport-Outcome"
RETRIES = "X-Homeport-Retries"  # in every answer of the ingress for a function with `retries`
# Of a spawned call: its id, which of its inputs, and which attempt.
CALL_ID, PLACE, ATTEMPT = "X-Homeport-Call-Id", "X-Homeport-Place", "X-Homeport-Attempt"
FORM = "X-Homeport-Form"  # what the caller expects, `value` or `stream`; without it, either
PARENT = "X-Homeport-Parent"  # the call that made this one, `fc-…`
MAP = "X-Homeport-Map"  # the call, `fc-…`, whose inputs a `.map()` sends one by one
VALUE, FAILED, STREAM = "value", "error", "stream"  # outcomes

ITEM, ERROR, END = (
    b"i",
    b"e",
    b"z",
)  # kinds of frames; a stream without one of the last two was cut off
FRAME_HEAD_BYTES = 5

PREFIX = "call-"  # of the ids of endpoints without a URL; one with a URL has `--` in its id


def endpoint_id(
    app: str,
    tag: str,
    *,
    key: str,
    scope: str = "",
    version: "int | None" = None,
    variant: str = "",
) -> str:
    """Return the id of a function's endpoint for calls; callers and server compute it alike, without a look-up.

    `key` is the key of the app's environment. Without it the id cannot be computed, so code of another environment
    cannot call the function. `scope` is the id of a `serve` or `run` session; empty: the deployed app. `version` is a
    number of `app history`; None: whichever version serves. `variant` is `variants.Options.digest`; empty: none.

    >>> endpoint_id("shop", "Cart.add", key="a secret")
    'call-8db3d66c72ab9ef3365bb8d2a7149163'
    """
    parts = [key, scope, app, tag, "" if version is None else str(version)]
    if variant:
        parts.append(variant)
    return PREFIX + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def frame(kind: bytes, body: bytes) -> bytes:
    """Return one frame of a stream: the body's length in 4 bytes, big endian, its kind, and the body.

    >>> frame(ITEM, b"abc")
    b'\\x00\\x00\\x00\\x03iabc'
    """
    return len(body).to_bytes(4, "big") + kind + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """The number of retries of a failed call, and the delays before them in seconds."""

    max_retries: int
    initial_delay_s: float = 1.0
    backoff: float = 2.0  # each delay is that many times the one before
    max_delay_s: float = 60.0

    def delay_s(self, retry: int) -> float:
        """Return the pause before a retry; the first one is 0.

        >>> [Retries(max_retries=3, max_delay_s=3.0).delay_s(n) for n in range(3)]
        [1.0, 2.0, 3.0]
        """
        return float(min(self.initial_delay_s * self.backoff**retry, self.max_delay_s))

    @property
    def text(self) -> str:
        """The policy as one field of a response: the number of retries, two delays in milliseconds, the backoff in
        thousandths.

        >>> Retries(max_retries=3).text
        '3.1000.2000.60000'
        """
        parts = (self.initial_delay_s * 1000, self.backoff * 1000, self.max_delay_s * 1000)
        return ".".join((str(self.max_retries), *(f"{part:.0f}" for part in parts)))

    @staticmethod
    def parse(text: str) -> "Retries | None":
        """Return the policy that `text` describes; None if it describes none.

        >>> Retries.parse("3.1000.2000.60000")
        Retries(max_retries=3, initial_delay_s=1.0, backoff=2.0, max_delay_s=60.0)
        """
        try:
            count, first, backoff, most = (int(part) for part in text.split("."))
        except ValueError:
            return None
        return Retries(
            max_retries=count,
            initial_delay_s=first / 1000,
            backoff=backoff / 1000,
            max_delay_s=most / 1000,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Why a call failed: the exception as text, and as a pickle if it could be pickled."""

    type: str  # `ValueError`, or `shop.OutOfStock`
    text: str  # str() of it
    traceback: str = ""  # the user's frames in the container, with those of its causes
    pickled: bytes = b""  # the exception with its causes; empty: it cannot be pickled
    python: str = ""  # the container's, `3.12`

    def described(self) -> "dict[str, str]":
        """Return the exception as text, for JSON."""
        return {"type": self.type, "message": self.text, "traceback": self.traceback}

    def encode(self) -> bytes:
        """Return the body of an outcome `error`: the length of the text in 4 bytes, the text as JSON, the pickle."""
        words = json.dumps({**self.described(), "python": self.python}).encode()
        return len(words).to_bytes(4, "big") + words + self.pickled

    @staticmethod
    def decode(body: bytes) -> "Failed":
        """Return what `encode` wrote; `ValueError` if the body is something else."""
        end = 4 + int.from_bytes(body[:4], "big")
        words = json.loads(body[4:end])
        if not isinstance(words, dict):
            raise ValueError("the text of an error is not an object")  # noqa: TRY004 - as JSON raises
        return Failed(
            type=str(words.get("type", "")),
            text=str(words.get("message", "")),
            traceback=str(words.get("traceback", "")),
            pickled=bytes(body[end:]),
            python=str(words.get("python", "")),
        )
