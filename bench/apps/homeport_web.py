"""`web.py` on homeport: one container that takes all connections."""

import modal

from web import web

app = modal.App("bench")


@app.function(min_containers=1, max_containers=1)
@modal.concurrent(max_inputs=1000)
@modal.asgi_app()
def hello_app():
    return web
