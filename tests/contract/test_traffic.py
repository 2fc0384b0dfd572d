"""Endpoints, pools and addresses, as the control plane and the ingress name them."""

import pytest

from homeport.contract.calls import endpoint_id
from homeport.contract.traffic import Endpoint, PoolKey, Public

POOL = PoolKey("shop", "Cart.*", "rv-1", "n=1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False), ("10.0.0.2", False)],
)
def test_visitors_come_in_everywhere_only_at_the_address_of_all_interfaces(host, expected):
    assert expected == Public(host=host, http=80).is_everywhere


def test_an_endpoint_is_for_calls_by_its_id():
    called = Endpoint(id=endpoint_id("shop", "f", key="k"), hosts=(), pool=POOL)
    visited = Endpoint(id="me--shop-f", hosts=("me--shop-f.localhost",), pool=POOL)

    assert called.is_called
    assert not visited.is_called


@pytest.mark.parametrize("parameters", ["", "n=1", "a=b%26c&d=%3F"])
def test_a_pools_text_reads_back_whatever_its_names_are(parameters):
    key = PoolKey("my app", "Cart.*", "rv/1?x", parameters)

    assert key == PoolKey.parse(str(key))
    assert key.base == PoolKey("my app", "Cart.*", "rv/1?x")
