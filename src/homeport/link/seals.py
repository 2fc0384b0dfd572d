"""Seals: by its seal an order is recognised as one that this control plane gave to this node. PURE.

An agent keeps the orders of its containers, and reports them to a control plane that was started again. The control
plane keeps none. A seal is an HMAC of the whole order under a key that no node has, with the node's identity in it. So
a node cannot change an order, cannot report another node's, and cannot make one up.
"""

import hashlib
import hmac
import json
from typing import Any

from homeport.contract import codec
from homeport.contract.container import StartOrder


class Sealer:
    """Seals the orders for one node, and checks the seals of those that it reports."""

    def __init__(self, key: bytes, node: str) -> None:
        """`key` is the cluster's (`Authority.key_of_orders`); `node` is the name in the node's certificate."""
        self._key = hmac.digest(key, f"homeport orders of {node}".encode(), hashlib.sha256)

    def seal(self, order: StartOrder) -> str:
        """Return the seal of an order, whose source is the name of a tree."""
        # Brief, so that a field that a later version adds, with its default, does not change the seal.
        fields = codec.encode(order, brief=True)
        fields.pop("seal", None)
        fields.pop(
            "region", None
        )  # an agent of an earlier version drops it, and nothing is decided by it
        text = json.dumps(_plain(fields), sort_keys=True, separators=(",", ":"))
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()

    def knows(self, order: StartOrder) -> bool:
        """Return whether this order, as the node reports it, has the seal of one that the node was given."""
        return hmac.compare_digest(self.seal(order).encode(), order.seal.encode())


def _plain(value: Any) -> Any:
    """Return a JSON value with whole numbers as integers: 60 comes back as 60.0 where a field is a `float`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
