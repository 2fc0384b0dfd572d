"""What a function's web methods say of the whole function."""

import pytest

from homeport.contract.manifest import FunctionSpec, WebKind, WebMethod


def web(name: str, port: int | None = None) -> WebMethod:
    kind = WebKind.ASGI if port is None else WebKind.WEB_SERVER
    return WebMethod(tag=name, attribute=name, kind=kind, port=port)


@pytest.mark.parametrize(
    ("methods", "ports", "has_several"),
    [
        ((), (), False),
        ((web("a"),), (), False),
        ((web("a", 8000),), (8000,), False),
        ((web("a", 80), web("b", 8000)), (80, 8000), True),
        ((web("a"), web("b")), (), True),
    ],
)
def test_a_function_has_the_ports_of_its_web_servers_and_knows_if_a_request_names_a_method(
    methods, ports, has_several
):
    spec = FunctionSpec(name="f", module="m", qualname="f", web=methods)

    assert (ports, has_several) == (spec.ports, spec.has_several)
