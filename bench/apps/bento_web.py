"""`web.py` on BentoML: one worker that takes all connections."""

import bentoml

from web import web


@bentoml.service(workers=1, traffic={"timeout": 600, "max_concurrency": 1000})
@bentoml.asgi_app(web, path="/web")
class Hello:
    pass
