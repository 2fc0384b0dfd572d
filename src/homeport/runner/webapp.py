"""`fastapi_endpoint`: makes a FastAPI app with the function as its one route (behaviour spec 2.3)."""

from typing import Any


class FastAPIMissing(Exception):
    """`fastapi_endpoint` needs FastAPI: add `.pip_install("fastapi[standard]")` to the image"""


def build(handler: Any, *, method: str, docs: bool) -> Any:
    """Return the ASGI app that answers `method /` with the handler; any origin may read the answer."""
    try:
        from fastapi import FastAPI
        from fastapi.middleware.cors import CORSMiddleware
    except ModuleNotFoundError as error:
        # The text says everything, unless it is a package that FastAPI itself needs.
        why = None if error.name == "fastapi" else error
        raise FastAPIMissing(FastAPIMissing.__doc__) from why
    app = FastAPI(openapi_url="/openapi.json" if docs else None)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    app.add_api_route("/", handler, methods=[method])
    return app
