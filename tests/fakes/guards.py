"""The part of the fake ingress that has proxy tokens, rate limits and other machines."""

from collections.abc import Mapping

from homeport.contract.rates import Rate
from homeport.contract.traffic import Pass, Peer, Split


class FakeGuards:
    """What the control plane has told of tokens, limits, challenges and machines; `used` is what it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.valid: dict[str, Pass] = {}
        self.used: dict[str, float] = {}
        self.limits: dict[str, Rate] = {}
        self.challenges: dict[str, str] = {}
        self.splits: dict[str, Split] = {}
        self.peers: dict[str, Peer] = {}  # the other machines
        self.peer_pem = ""
        self.admits = 0  # the port for containers of other machines
        self.captures: dict[str, str] = {}  # endpoint -> what its containers are told

    async def peer(self, node: str, there: Peer | None) -> None:
        async with self._call("peer", node):
            if there is None:
                self.peers.pop(node, None)
            else:
                self.peers[node] = there

    async def admit(self, host: str, port: int) -> int:
        async with self._call("admit", host):
            self.admits = port or 7602
            return self.admits

    async def peer_certificate(self, pem: str) -> None:
        async with self._call("peer_certificate"):
            self.peer_pem = pem

    async def tokens(self, valid: Mapping[str, Pass]) -> None:
        async with self._call("tokens"):
            self.valid = dict(valid)

    async def tokens_used(self) -> dict[str, float]:
        async with self._call("tokens_used"):
            return dict(self.used)

    async def rates(self, limits: Mapping[str, Rate]) -> None:
        async with self._call("rates"):
            self.limits = dict(limits)

    async def capture(self, endpoint_id: str, order: str | None) -> None:
        async with self._call("capture", endpoint_id):
            self.captures.pop(endpoint_id, None)
            if order is not None and endpoint_id in self.endpoints:
                self.captures[endpoint_id] = order

    async def split(self, endpoint_id: str, part: Split | None) -> None:
        async with self._call("split", endpoint_id):
            self.splits.pop(endpoint_id, None)
            if part is not None and endpoint_id in self.endpoints:
                self.splits[endpoint_id] = part

    async def challenge(self, token: str, answer: str | None) -> None:
        async with self._call("challenge", token):
            self.challenges.pop(token, None)
            if answer is not None:
                self.challenges[token] = answer
