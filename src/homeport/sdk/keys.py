"""Keys of a Dict as bytes: equal keys are equal bytes, in every process.

An ordinary pickle refers to an object that it has written before, so `("a", "a")` has other bytes if both are one
object. Here every object is written again.
"""

import io
import pickle
from typing import Any

from homeport.sdk.exception import SerializationError

PROTOCOL = 4  # of every Python that homeport supports


def pack(key: Any) -> bytes:
    """Return a key's bytes; `SerializationError` if it cannot be pickled, `TypeError` if it has no hash.

    >>> pack(("a", "a")) == pack(("a", "".join(["", "a"])))
    True
    """
    hash(key)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    pickler.fast = True  # no references
    try:
        pickler.dump(key)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise SerializationError(f"this key cannot be pickled: {error}") from None
    return buffer.getvalue()


def loads(data: bytes) -> Any:
    """Return the key of these bytes."""
    return pickle.loads(data)  # noqa: S301 - between containers of one workspace
