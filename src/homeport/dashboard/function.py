"""The dashboard as a function of homeport; the server deploys it (`control/deploys/dashboard`)."""

from collections.abc import Callable
from typing import Any

import homeport

# Imported here, so that a container is forked with everything.
from homeport.dashboard.app import create

app = homeport.App("dashboard")


@app.function()
@homeport.asgi_app(label="dashboard")
def dashboard() -> Callable[..., Any]:
    """Return the app."""
    return create()
