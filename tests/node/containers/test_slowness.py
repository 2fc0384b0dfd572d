from homeport.contract.manifest import WebKind, WebMethod
from homeport.node.containers import slowness
from tests.orders import order

PORT = WebMethod(tag="f", attribute="f", kind=WebKind.WEB_SERVER, port=8000, startup_timeout_s=5.0)
APP = WebMethod(tag="g", attribute="g", kind=WebKind.ASGI)


def test_a_program_whose_packages_are_not_compiled_has_more_time_for_its_port():
    given = order(web=(PORT, APP), timeout_s=300.0)
    patient = slowness.with_time_to_compile(given)

    assert [65.0, APP.startup_timeout_s] == [web.startup_timeout_s for web in patient.function.web]
    assert 300.0 == patient.function.timeout_s
    assert given.id == patient.id
