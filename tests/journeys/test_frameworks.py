"""Frameworks as their users write them: Django, Starlette, FastHTML."""

DJANGO = """
    import modal

    app = modal.App("django")

    @app.function()
    @modal.concurrent(max_inputs=4)
    @modal.wsgi_app()
    def site():
        from django.conf import settings
        from django.core.wsgi import get_wsgi_application
        from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
        from django.urls import path

        def index(request):
            return JsonResponse({
                "url": request.build_absolute_uri(), "you": request.META["REMOTE_ADDR"],
            })

        def upload(request):
            return HttpResponse(str(len(request.body)))

        def stream(request):
            return StreamingHttpResponse(f"{n}\\n" for n in range(3))

        urls = type("urls", (), {"urlpatterns": [
            path("", index), path("upload", upload), path("stream", stream),
        ]})
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, SECRET_KEY="x", DEBUG=False)
        return get_wsgi_application()
"""


def test_a_django_app_answers(terminal, write, visitor):
    url = terminal.deploy(write(DJANGO))["site"]

    assert {"url": f"{url}/", "you": "127.0.0.1"} == visitor.get(url).json()
    assert "100000" == visitor.post(f"{url}/upload", content=b"x" * 100_000).text
    assert "0\n1\n2\n" == visitor.get(f"{url}/stream").text
    assert 404 == visitor.get(f"{url}/nowhere").status_code
    assert "" == visitor.head(url).text


TWO = """
    import modal

    app = modal.App("two")

    @app.function()
    @modal.asgi_app()
    def starlette():
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        async def index(request):
            return PlainTextResponse(str(request.url))

        return Starlette(routes=[Route("/", index)])

    @app.function()
    @modal.asgi_app()
    def fasthtml():
        import fasthtml.common as fh

        web = fh.FastHTML()

        @web.get("/")
        def home():
            return fh.Div(fh.P("hello"))

        return web
"""


def test_starlette_and_fasthtml_apps_answer(terminal, write, visitor):
    urls = terminal.deploy(write(TWO))

    assert f"{urls['starlette']}/" == visitor.get(urls["starlette"]).text
    assert "<p>hello</p>" in visitor.get(urls["fasthtml"]).text


MIXED = """
    import modal

    app = modal.App("mixed")

    @app.cls()
    @modal.concurrent(max_inputs=4)
    class Both:
        @modal.enter()
        def load(self):
            self.word = "shared"

        @modal.wsgi_app()
        def flask(self):
            from flask import Flask
            web = Flask("x")
            web.get("/")(lambda: self.word)
            return web

        @modal.fastapi_endpoint()
        def fast(self):
            return self.word
"""


def test_a_class_may_have_web_methods_of_both_kinds(terminal, write, visitor):
    urls = terminal.deploy(write(MIXED))

    assert "shared" == visitor.get(urls["Both.flask"]).text
    assert "shared" == visitor.get(urls["Both.fast"]).json()
    assert 1 == len(terminal.json("container", "list"))
