"""Makes the environment variables of the interpreters that the node starts for users."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from homeport.contract.container import Launch
from homeport.contract.image import Image

#: The variables of the server that containers get; no other variable of the server.
INHERITED = (
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LD_LIBRARY_PATH",
)


def environ_of(
    image: Image,
    outer: Mapping[str, str],
    python: str = sys.executable,
    root: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the variables that all containers of an image share.

    `root` are the variables of the image's own root file system, `image.environ` included; there, this
    machine's programs and files are not visible.
    """
    if root:
        proxies = {
            name: outer[name]
            for name in INHERITED
            if name.lower().endswith("_proxy") and name in outer
        }
        return {**proxies, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **root}
    folder, ours = Path(python).parent, str(Path(sys.executable).parent)
    # Scripts installed beside homeport must not be on the PATH of an image's own packages.
    other_folders = [
        part for part in outer.get("PATH", os.defpath).split(os.pathsep) if part != ours
    ]
    venv = {"VIRTUAL_ENV": str(folder.parent)} if image.has_environment else {}
    return {
        **{name: outer[name] for name in INHERITED if name in outer},
        "PATH": os.pathsep.join([str(folder), *other_folders]),
        **venv,
        "PYTHONUNBUFFERED": "1",
        **image.environ,
    }


def with_modal(environ: Mapping[str, str], lib: Path) -> dict[str, str]:
    """Return the variables with which all Python programs in a container can `import modal`."""
    if os.pathsep in str(lib):
        return dict(environ)
    ours = (str(lib / "homeport" / "onpath"), str(lib))
    theirs = environ.get("PYTHONPATH", "")
    path = os.pathsep.join((*([theirs] if theirs else ()), *ours))
    return {**environ, "PYTHONPATH": path}


def environ_for(
    launch: Launch,
    secrets: Mapping[str, str],
    outer: Mapping[str, str],
    python: str = sys.executable,
    lib: Path | None = None,
    root: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the container's variables: homeport's, the image's, the secrets', and last the reserved ones.

    `lib` is a folder with only `homeport/` in it.
    """
    order = launch.order
    image = order.function.image
    reserved = {
        "IS_REMOTE": "1",
        "TASK_ID": order.id,
        "IMAGE_ID": f"im-{image.key}",
        "CLOUD_PROVIDER": "local",
        "REGION": order.region or "local",
        "ENVIRONMENT": order.within.environment,
    }
    users = {**environ_of(image, outer, python, root), "TMPDIR": launch.tmp_dir, **secrets}
    return {
        **(users if lib is None else with_modal(users, lib)),
        # Set even if empty: unset, the process would see GPUs that other containers have.
        "CUDA_VISIBLE_DEVICES": ",".join(order.devices),
        "NVIDIA_VISIBLE_DEVICES": ",".join(order.devices) or "void",
        **{f"{prefix}_{k}": v for prefix in ("MODAL", "HOMEPORT") for k, v in reserved.items()},
        "HOMEPORT_APP": order.pool.app,
        "HOMEPORT_FUNCTION": order.function.name,
        "HOMEPORT_REVISION": order.pool.revision,
    }
