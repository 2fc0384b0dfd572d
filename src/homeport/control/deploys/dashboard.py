"""Deploys the dashboard: an app of homeport's own, in the environment SYSTEM, which no user can name.

Its code is `homeport.dashboard`, a part of the installation, so there are no files to upload.
"""

import importlib.util
import re

from homeport._version import __version__
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import FunctionSpec, Manifest, WebKind, WebMethod
from homeport.contract.scope import SYSTEM
from homeport.control.deploys.deployer import Deployer

APP = FUNCTION = "dashboard"
MODULE = "homeport.dashboard.function"
NEEDS = "jinja2"  # of the extra


def manifest(version: str) -> Manifest:
    """Return the manifest for a version of homeport: another version has another manifest, so it is deployed again."""
    web = WebMethod(tag=FUNCTION, attribute=FUNCTION, kind=WebKind.ASGI, label="dashboard")
    spec = FunctionSpec(
        name=FUNCTION,
        module=MODULE,
        qualname=FUNCTION,
        web=(web,),
        max_containers=2,
        max_inputs=200,  # most of them are logs that a page follows
        scaledown_window_s=60.0,
        timeout_s=3600.0,
        exit_grace_s=1.0,  # pages ask again
    )
    tag = re.sub(r"[^A-Za-z0-9._-]", "-", version)[:63]
    return Manifest(app_name=APP, functions=(spec,), tags={"homeport": tag})


class Dashboard:
    """The dashboard of this installation."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    async def url(self) -> str:
        """Deploy the dashboard unless this version is deployed; return its URL."""
        if importlib.util.find_spec(NEEDS) is None:
            raise BadRequest(
                "the dashboard is not installed on the server",
                hint="there, `uv pip install 'homeport[dashboard]'` (or pip), in the environment of homeport",
            )
        deployed = await self._deployer.deploy(
            SYSTEM,
            APP,
            manifest(__version__),
            tag="",
            strategy="rolling",
            say=lambda _text: None,
        )
        for live in deployed.app.endpoints.values():
            if live.url:
                return live.url
        raise NotFound("the dashboard has no URL")
