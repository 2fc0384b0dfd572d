"""An order is known by its seal: to one control plane, from one node, and unchanged."""

import dataclasses
import json

import pytest

from homeport.contract import codec
from homeport.contract.container import Launch, StartOrder, sent
from homeport.contract.dataclass import dataclass
from homeport.contract.scope import Scope
from homeport.contract.traffic import PoolKey
from homeport.link.authority import Authority
from homeport.link.seals import Sealer
from tests.orders import order

KEY = b"k" * 32
ORDER = order(
    "ta-1",
    source="rv-1",
    timeout_s=60,
    urls={"web": "https://a.example"},
    parameters={"n": 3, "b": b"x"},
)


def sealed(order: StartOrder = ORDER) -> StartOrder:
    return dataclasses.replace(order, seal=Sealer(KEY, "a").seal(order))


def over_the_wire(order: StartOrder) -> StartOrder:
    return codec.decode(StartOrder, json.loads(codec.line(order)))


def test_a_sealed_order_is_known_after_it_was_written_and_read():
    assert Sealer(KEY, "a").knows(over_the_wire(over_the_wire(sealed())))


@pytest.mark.parametrize("sealer", [Sealer(KEY, "b"), Sealer(b"o" * 32, "a")])
def test_a_sealed_order_is_that_of_one_node_and_of_one_cluster(sealer):
    assert not sealer.knows(sealed())


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "ta-2"},
        {"pool": PoolKey("bank", "f", "rv-1")},
        {"within": Scope("other", "main")},
        {"generation": 1},
        {"key": "another environment's"},
        {"devices": ("GPU-1",)},
        {"function": dataclasses.replace(ORDER.function, max_inputs=1000)},
        {"parameters": {"n": 4}},
        {"source": "rv-2"},
        {"seal": ""},
        {"seal": "0" * 64},
        {"seal": "\u00e9"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_order_that_was_changed_is_unknown(changes):
    assert not Sealer(KEY, "a").knows(dataclasses.replace(sealed(), **changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterOrder(StartOrder):
    """What a later version of homeport may order."""

    is_later: bool = False


def test_a_field_that_a_later_version_adds_leaves_the_seal_as_it_is():
    fields = {field.name: getattr(ORDER, field.name) for field in dataclasses.fields(ORDER)}

    assert Sealer(KEY, "a").seal(ORDER) == Sealer(KEY, "a").seal(LaterOrder(**fields))
    assert Sealer(KEY, "a").seal(ORDER) != Sealer(KEY, "a").seal(
        LaterOrder(**fields, is_later=True)
    )


def test_an_earlier_version_that_knows_no_region_reports_an_order_that_is_known():
    of_a_region = sealed(dataclasses.replace(ORDER, region="eu-west"))

    assert Sealer(KEY, "a").knows(dataclasses.replace(of_a_region, region=""))


def test_the_key_is_the_cas_own_and_the_same_after_a_restart(tmp_path):
    keys = []
    for name in ("one", "one", "other"):
        (tmp_path / name).mkdir(exist_ok=True)
        authority = Authority(tmp_path / name)
        authority.open()
        keys.append(authority.key_of_orders)

    assert keys[0] == keys[1] != keys[2]
    assert 32 == len(keys[0])


def test_a_container_does_not_learn_its_seal():
    assert "seal" not in json.dumps(sent(Launch(order=sealed())))
