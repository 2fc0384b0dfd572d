"""The list of proxy tokens."""

from homeport.contract import codec
from homeport.contract.api.tokens import NewProxyToken, ProxyTokenSecret
from homeport.contract.errors import IngressError
from tests.control.api.served import client
from tests.control.plane import Plane


async def test_a_list_of_proxy_tokens_has_their_last_use_also_without_an_ingress(tmp_path):
    """The ingress knows it at once, and the database only each minute."""
    async with Plane(tmp_path) as plane, client(plane, tmp_path) as http:
        body = codec.dumps(NewProxyToken(name="ci"))
        made = await http.post("/v1/proxy-tokens", content=body)
        token = codec.loads(ProxyTokenSecret, made.text).token_id
        assert [None] == await uses(http)
        plane.ingress.used = {token: 10.0}

        (used_at,) = await uses(http)
        assert used_at > 1e9, "seconds since the epoch"
        with plane.breaking("tokens_used", "", "before", IngressError("not now")) as failed:
            assert [used_at] == await uses(http)
        assert ["tokens_used"] == failed


async def uses(http) -> list[float | None]:
    answer = await http.get("/v1/proxy-tokens")
    assert 200 == answer.status_code
    return [token["used_at"] for token in answer.json()["tokens"]]
