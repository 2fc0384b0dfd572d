"""Makes the Debian that `debian_slim` starts with: once, by mmdebstrap; or pulls it if mmdebstrap is not installed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from homeport.cell import identity
from homeport.contract.errors import ImageError
from homeport.node.images import command
from homeport.node.images.rooted import tools

#: Debian's own Python, by release.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
PYTHON_PACKAGES = ("python3", "python3-pip", "python3-venv", "python-is-python3")
INCLUDED = "ca-certificates"
#: Leave out the files that Debian's `slim` images leave out; call no fsync for each file of a package.
OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/man/*",
)


async def make(suite: str, archive: Path, say: Callable[[str], None]) -> None:
    """Write a minimal system's archive; some 40 seconds, most of which are downloads."""
    program = tools.find("mmdebstrap")
    if os.geteuid() != 0 and identity.subordinate() is None:
        raise ImageError(
            "a Debian has files of several owners, and this user has one id only",
            hint="`sudo apt-get install uidmap`, and a line for this user in /etc/subuid and /etc/subgid",
        )
    words = [program, "--quiet", "--variant=minbase", f"--include={INCLUDED}", "--format=tar"]
    words += [f"--dpkgopt={option}" for option in OPTIONS]
    if os.geteuid() == 0:
        # It mounts /proc, /sys and /dev of this machine below its directory. In a mount namespace of its own, no mount
        # remains if it is killed, so the removal of that directory cannot follow one.
        words = [tools.find("unshare"), "--mount", "--propagation", "private", "--", *words]
        words += ["--mode=root"]
    else:
        words += ["--mode=unshare"]
    temporary = archive.parent / "tmp"
    temporary.mkdir(mode=0o755)
    if os.geteuid() != 0:
        temporary.chmod(0o1777)  # mmdebstrap's own user namespace works there
    environ = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    environ |= {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    environ |= {"TMPDIR": str(temporary), "HOME": os.environ.get("HOME", "/")}
    say(f"Debian {suite}, made once for all images")
    result = await command.run(
        [*words, suite, str(archive)], environ=environ, cwd=Path("/"), say=say
    )
    shutil.rmtree(temporary, ignore_errors=True)
    if result.code:
        errors = [line for line in result.lines if line.startswith("E: ")]
        raise ImageError(
            f"mmdebstrap cannot make a Debian: {errors[-1][3:] if errors else result.code}",
            traceback=result.text,
        )


def installing(packages: "tuple[str, ...] | list[str]", *, only: bool = False) -> list[str]:
    """Return the command that installs packages and leaves no lists behind; with `only`, no recommended packages."""
    script = (
        'apt-get update -qq $OPTIONS && apt-get install -y -qq $OPTIONS -- "$@" '
        "&& rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb"
    )
    options = ["-o", "APT::Install-Recommends=false"] if only else []
    if identity.own() is None:  # apt would become another user to download
        options += ["-o", "APT::Sandbox::User=root"]
    script = f"OPTIONS='{' '.join(options)}'; {script}"
    script = f"command -v apt-get >/dev/null || exit 127; {script}"
    return ["/bin/sh", "-c", script, "apt_install", *packages]
