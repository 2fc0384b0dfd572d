"""Each role, its fake and the real thing have the same methods, and the suite here calls each of them."""

import inspect
import re
from pathlib import Path

import pytest

from homeport.contract.roles import Ingress, Node
from homeport.ingress.haproxy import HAProxy
from homeport.node.agent import Agent
from tests.fakes import FakeIngress, FakeNode

ROLES = [(Node, FakeNode), (Node, Agent), (Ingress, FakeIngress), (Ingress, HAProxy)]
# Methods with their own suite against the real thing, because a fake promises nothing there.
ELSEWHERE = {
    Node: {"watch", "prepare", "environments", "prune", "forget", "rest"},
    Ingress: {
        "open",
        "start",
        "close",
        "quantiles_ms",
        "alias",
        "peer",
        "peer_certificate",
        "admit",
    },
}


def members(role: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in vars(role).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


def shape(signature: inspect.Signature) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize(("role", "made"), ROLES)
def test_each_implementation_of_a_role_has_all_its_methods_as_they_are_called(role, made):
    different = {
        name: str(signature)
        for name, signature in members(role).items()
        if shape(signature) != shape(inspect.signature(getattr(made, name, lambda: None)))
        or inspect.iscoroutinefunction(getattr(role, name))
        != inspect.iscoroutinefunction(getattr(made, name, None))
    }

    assert {} == different


@pytest.mark.parametrize(
    ("role", "files"), [(Node, ["test_node"]), (Ingress, ["test_ingress", "ingresses"])]
)
def test_each_method_is_called_on_the_fake_and_on_the_real_thing(role, files):
    text = "".join(Path(__file__).with_name(f"{name}.py").read_text() for name in files)
    # `house.ingress.load(…)` and `node.start(…)`; fixtures run both.
    called = set(re.findall(rf"\b{role.__name__.lower()}\.(\w+)\(", text))

    assert set(members(role)) - ELSEWHERE[role] <= called
    assert not ELSEWHERE[role] & called, "it has its run here now"
