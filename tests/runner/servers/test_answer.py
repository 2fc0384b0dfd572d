"""An app's own 425: the ingress would send the request to another container."""

import pytest

ASGI = """
    import modal
    app = modal.App("a")

    @app.function()
    @modal.asgi_app()
    def web():
        from starlette.responses import PlainTextResponse
        return PlainTextResponse("later", status_code=425, headers={"X-Own": "1"})
"""
WSGI = """
    import modal
    app = modal.App("a")

    def early(environ, start):
        start("425 Too Early", [("Content-Length", "5"), ("X-Own", "1")])
        return [b"later"]

    @app.function()
    @modal.wsgi_app()
    def web():
        return early
"""


@pytest.mark.parametrize(("kind", "script"), [("asgi_app", ASGI), ("wsgi_app", WSGI)])
def test_a_425_leaves_the_container_as_a_status_that_no_ingress_tries_again(start, kind, script):
    runner = start(script, web={"web": kind}).ready()
    answer = runner.client.get("/")

    assert (499, "later") == (answer.status_code, answer.text)
    assert ("425", "1") == (answer.headers["x-homeport-status"], answer.headers["x-own"])
