"""`flask_web.py` on homeport: one container, as many threads as gunicorn gets beside it."""

import modal
from flask_web import web

app = modal.App("bench-wsgi")


@app.function(min_containers=1, max_containers=1)
@modal.concurrent(max_inputs=32)
@modal.wsgi_app()
def hello_app():
    return web
