"""Two ways to keep strangers out.

    uv run homeport secret create auth-secret AUTH_TOKEN=sesame
    uv run homeport serve examples/auth.py

`protected` wants a proxy token: `uv run homeport proxy-token create` prints one, and requests
without it never reach a container. `bearer` checks a secret of its own.
"""

import os
import secrets

from fastapi import Header, HTTPException

import homeport

app = homeport.App("auth")


@app.function()
@homeport.fastapi_endpoint(requires_proxy_auth=True)
def protected(text: str = "hello"):
    return {"result": text.upper()}


@app.function(secrets=[homeport.Secret.from_name("auth-secret", required_keys=["AUTH_TOKEN"])])
@homeport.fastapi_endpoint(method="POST")
def bearer(data: dict, authorization: str = Header("")):
    expected = f"Bearer {os.environ['AUTH_TOKEN']}"
    if not secrets.compare_digest(authorization.encode(), expected.encode()):
        raise HTTPException(401, "Unauthorized")
    return {"result": data}
