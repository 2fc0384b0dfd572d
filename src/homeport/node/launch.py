"""The variables with which the node starts an interpreter for a user."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from homeport.contract.container import Launch
from homeport.contract.image import Image

#: What a container takes over from the server's environment; nothing else gets through.
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
    """The variables that all containers of an image share.

    `root` are those that its own root file system brings, `image.environ` included; there, nothing of this
    machine's programs and files counts.
    """
    if root:
        kept = {
            name: outer[name]
            for name in INHERITED
            if name.lower().endswith("_proxy") and name in outer
        }
        return {**kept, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **root}
    folder, ours = Path(python).parent, str(Path(sys.executable).parent)
    # What is installed beside homeport is no business of an environment of its own.
    rest = [part for part in outer.get("PATH", os.defpath).split(os.pathsep) if part != ours]
    venv = {"VIRTUAL_ENV": str(folder.parent)} if image.has_environment else {}
    return {
        **{name: outer[name] for name in INHERITED if name in outer},
        "PATH": os.pathsep.join([str(folder), *rest]),
        **venv,
        "PYTHONUNBUFFERED": "1",
        **image.environ,
    }


def with_modal(environ: Mapping[str, str], lib: Path) -> dict[str, str]:
    """The same, so that programs which a container starts can `import modal`, whatever Python they are."""
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
    """The container's variables: ours, the image's, the secrets', and last the reserved ones.

    `lib` is a folder with only `homeport/` in it.
    """
    order = launch.order
    image = order.function.image
    reserved = {
        "IS_REMOTE": "1",
        "TASK_ID": order.id,
        "IMAGE_ID": f"im-{image.key}",
        "CLOUD_PROVIDER": "local",
        "REGION": "local",
        "ENVIRONMENT": "main",
    }
    users = {**environ_of(image, outer, python, root), "TMPDIR": launch.tmp_dir, **secrets}
    return {
        **(users if lib is None else with_modal(users, lib)),
        # Those that are nobody's here are somebody else's.
        "CUDA_VISIBLE_DEVICES": ",".join(order.devices),
        "NVIDIA_VISIBLE_DEVICES": ",".join(order.devices) or "void",
        **{f"{prefix}_{k}": v for prefix in ("MODAL", "HOMEPORT") for k, v in reserved.items()},
        "HOMEPORT_APP": order.pool.app,
        "HOMEPORT_FUNCTION": order.function.name,
        "HOMEPORT_REVISION": order.pool.revision,
    }
