"""`web.py`'s hello, which scales to zero at once."""

import modal
from fastapi import FastAPI

app = modal.App("cold-hello")
web = FastAPI()


@web.get("/")
async def greet(name: str = "World"):
    return {"message": f"Hello, {name}!"}


@app.function(scaledown_window=2, max_containers=1)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def hello():
    return web
