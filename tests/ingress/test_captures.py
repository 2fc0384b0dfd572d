"""What a container learns of a request that is to be captured, through a real HAProxy."""

from homeport.contract.traffic import Endpoint
from tests.ingress.conftest import POOL, routed
from tests.ingress.test_ring import serving

FIELD = "x-homeport-method"
TOLD = "0f5c.65536"


async def test_a_container_learns_of_a_capture_from_the_field_that_names_the_method(
    ingress, upstream, visitor
):
    _, _, url = await serving(ingress, upstream, 1)
    (endpoint,) = ingress._picture.endpoints.values()
    several = await routed(ingress, id="several", method="add")

    async def told(where: str) -> str | None:
        answer = await visitor.get(where, headers={"X-Homeport-Method": "forged.0.9"})
        return answer.json()["headers"].get(FIELD)

    assert (None, "add") == (await told(url), await told(several))
    await ingress.capture(endpoint.id, TOLD)
    await ingress.capture("several", TOLD)
    assert (f".{TOLD}", f"add.{TOLD}") == (await told(url), await told(several))
    await ingress.route(endpoint)  # as a deploy does
    assert f".{TOLD}" == await told(url)
    await ingress.capture(endpoint.id, None)
    await ingress.capture("several", None)
    assert (None, "add") == (await told(url), await told(several))


async def test_a_capture_ends_with_its_endpoint(ingress, upstream, visitor):
    await serving(ingress, upstream, 1)
    (endpoint,) = ingress._picture.endpoints.values()
    await ingress.capture(endpoint.id, TOLD)
    await ingress.unroute(endpoint.id)
    await ingress.capture("nobody", TOLD)
    again = Endpoint(id=endpoint.id, hosts=endpoint.hosts, pool=POOL)
    await ingress.route(again)
    answer = await visitor.get(
        f"http://127.0.0.1:{ingress.http_port}", headers={"Host": endpoint.hosts[0]}
    )

    assert FIELD not in answer.json()["headers"]
