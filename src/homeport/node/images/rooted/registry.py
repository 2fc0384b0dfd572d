"""Fetches an image of a registry with skopeo, reads which layers it has, and finds the credentials.

skopeo checks each layer against its digest. What it fetches lies in a directory of the OCI layout until it has
been unpacked (github.com/opencontainers/image-spec, image-layout.md).
"""

import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.node.images.rooted import download, tools

POLICIES = ("/etc/containers/policy.json", "~/.config/containers/policy.json")
MAX_LAYERS = 200  # that one mount can name, in a page of memory
_HERE = re.compile(r"^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$")
_REFERENCE = re.compile(
    r"^[a-z0-9\[][\w.:\-\[\]/]*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$", re.IGNORECASE
)
#: Keys of the secret that a step names; the step's own commands see none of them.
USER, PASSWORD = "REGISTRY_USERNAME", "REGISTRY_PASSWORD"
SERVICE_ACCOUNT = "SERVICE_ACCOUNT_JSON"
ECR = re.compile(r"^\d+\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$")
LONGEST_ANSWER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """The layers and settings of a registry's image."""

    digest: str
    blobs: tuple[tuple[str, Path], ...]  # digest and archive, from the lowest layer up
    config: Mapping[str, Any]  # Env, WorkingDir, Entrypoint …


def words(tag: str, into: Path, *, authfile: Path | None) -> list[str]:
    """skopeo's command line."""
    reference = whole(tag)
    listed = [tools.find("skopeo")]
    if not any(Path(path).expanduser().exists() for path in POLICIES):
        listed.append("--insecure-policy")  # no administrator has configured whose signatures count
    listed += [
        "--override-os",
        "linux",
        "copy",
        "--src-no-creds" if authfile is None else "--authfile",
    ]
    if authfile is not None:
        listed.append(str(authfile))
    if _HERE.match(reference.partition("/")[0]):
        listed.append("--src-tls-verify=false")  # as Docker does for this machine's own registry
    return [*listed, f"docker://{reference}", f"oci:{into}:image"]


def whole(tag: str) -> str:
    """The reference with its registry.

    >>> whole("python:3.12-slim"), whole("me/it"), whole("ghcr.io/me/it")
    ('docker.io/library/python:3.12-slim', 'docker.io/me/it', 'ghcr.io/me/it')
    """
    if not _REFERENCE.match(tag):
        raise ImageError(f"{tag[:200]!r} is not the name of an image in a registry")
    first, slash, _ = tag.partition("/")
    if not slash:
        tag = f"docker.io/library/{tag}"
    elif "." not in first and ":" not in first and first != "localhost":
        tag = f"docker.io/{tag}"
    name, at, digest = tag.partition("@")
    # With both, the digest counts; skopeo takes one of them only.
    if at and ":" in name.rpartition("/")[2]:
        name = name[: name.rindex(":")]
    return f"{name}{at}{digest}"


def host(tag: str) -> str:
    """The registry of a reference."""
    return whole(tag).partition("/")[0]


def read(layout: Path) -> Fetched:
    """Read the image that skopeo has fetched; `ImageError` if its files describe none."""
    try:
        return _read(layout)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"what the registry sent describes no image: {error!r}") from None


def _read(layout: Path) -> Fetched:
    index = json.loads((layout / "index.json").read_text())
    described = index["manifests"][0]
    manifest = json.loads(_blob(layout, described["digest"]).read_text())
    config = json.loads(_blob(layout, manifest["config"]["digest"]).read_text())
    settings, layers = config.get("config") or {}, manifest["layers"]
    if not isinstance(settings, dict):
        raise TypeError("its settings are no object")
    if len(layers) > MAX_LAYERS:
        raise ImageError(f"it has {len(layers)} layers, and at most {MAX_LAYERS} can be mounted")
    return Fetched(
        digest=described["digest"],
        blobs=tuple((layer["digest"], _blob(layout, layer["digest"])) for layer in layers),
        config=settings,
    )


def credentials(how: str, tag: str, secrets: Mapping[str, str]) -> tuple[str, str] | None:
    """Return user and password for a registry; None without any. Blocks: it asks AWS for a token."""
    if how == "gcp":
        if text := secrets.get(SERVICE_ACCOUNT):
            return "_json_key", text
        raise ImageError(f"the secret lacks `{SERVICE_ACCOUNT}`")
    if how == "aws":
        return _ecr_token(host(tag), secrets)
    user, password = secrets.get(USER), secrets.get(PASSWORD)
    if (user is None) != (password is None):
        missing = PASSWORD if password is None else USER
        raise ImageError(f"the secret lacks `{missing}`")
    return None if user is None or password is None else (user, password)


def write_authfile(path: Path, tag: str, user: str, password: str) -> None:
    """Write the credentials file that skopeo reads, as `docker login` does; every user could see a command line."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"auths": {host(tag): {"auth": token}}}, file)


def forget(layout: Path) -> None:
    """Delete the fetched archives after they were unpacked."""
    shutil.rmtree(layout, ignore_errors=True)


def _blob(layout: Path, digest: str) -> Path:
    kind, _, name = str(digest).partition(":")
    if not (kind.isalnum() and name.isalnum()):
        raise ImageError("the image has an invalid digest")
    return layout / "blobs" / kind / name


def _ecr_token(registry: str, secrets: Mapping[str, str]) -> tuple[str, str]:
    """Return user and password from `GetAuthorizationToken` (docs.aws.amazon.com/AmazonECR/latest/APIReference)."""
    match = ECR.match(registry)
    region = secrets.get("AWS_REGION") or secrets.get("AWS_DEFAULT_REGION") or (match and match[1])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not secrets.get(name):
            raise ImageError(f"the secret lacks `{name}`")
    if not region:
        raise ImageError("the secret lacks `AWS_REGION`")
    dots = ".cn" if registry.endswith(".cn") else ""
    url = secrets.get("AWS_ENDPOINT_URL_ECR") or f"https://api.ecr.{region}.amazonaws.com{dots}/"
    body = b"{}"
    headers = signed(url, body, secrets, region, dt.datetime.now(dt.UTC))
    import http.client
    import urllib.error
    import urllib.request  # 2 MiB, which a server needs for such an image alone

    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - `opened` looks at the address
        with download.opened(request, 30) as answer:
            data = json.loads(answer.read(LONGEST_ANSWER))
        token = base64.b64decode(data["authorizationData"][0]["authorizationToken"]).decode()
    except urllib.error.HTTPError as error:
        text = error.read(2000).decode(errors="replace")
        reason = re.search(r'"(?:message|__type)"\s*:\s*"([^"]*)"', text)
        why = reason[1] if reason else error.reason
        raise ImageError(f"AWS gives no token for {registry}: {error.code} {why}") from None
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
        raise ImageError(f"AWS gives no token for {registry}: {error}") from None
    user, _, password = token.partition(":")
    return user, password


def signed(
    url: str, body: bytes, secrets: Mapping[str, str], region: str, now: dt.datetime
) -> dict[str, str]:
    """Return the headers of a request to ECR, signed (AWS Signature Version 4)."""
    where = urllib.parse.urlsplit(url)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": where.netloc,
        "x-amz-date": stamp,
        "x-amz-target": "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
    }
    if token := secrets.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = [f"{name}:{headers[name]}" for name in sorted(headers)]
    hashed = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", where.path or "/", "", *lines, "", names, hashed])
    scope = f"{day}/{region}/ecr/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{secrets['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in (day, region, "ecr", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={secrets['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers
