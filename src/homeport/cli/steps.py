"""Carries out the steps of `units`: files, links and commands of a service."""

import os
import pwd
import secrets
import subprocess
from collections.abc import Sequence

from homeport import private, removing
from homeport.cli import output, units
from homeport.cli.units import Link, Remove, Run, Service, Step, Write
from homeport.contract.errors import Failure, NotFound, StorageError


def carry_out(steps: Sequence[Step], service: Service, *, dry_run: bool = False) -> None:
    """Do the steps in their order; with `dry_run` print them. Raises a `Failure` at the first that fails."""
    for step in steps:
        if dry_run:
            output.out().print(units.shown(step), soft_wrap=True, markup=False, highlight=False)
        elif isinstance(step, Run):
            _run(step, service)
        elif isinstance(step, Write):
            _write(step)
        elif isinstance(step, Link):
            _link(step)
        else:
            _remove(step)


def _run(step: Run, service: Service) -> None:
    environ = {
        "UV_SYSTEM_CERTS": "1",  # a company's own CA, which sudo takes out of the environment
        **os.environ,
        # A downloaded Python must be where the service's user can read it.
        "UV_PYTHON_INSTALL_DIR": str(service.root / "python"),
    }
    try:
        result = subprocess.run(
            step.words, capture_output=True, text=True, check=False, env=environ
        )
    except FileNotFoundError:
        raise NotFound(f"there is no program `{step.words[0]}` on this machine") from None
    if result.returncode and not step.may_fail:
        raise Failure(
            f"`{units.shown(step)}` failed", traceback=(result.stderr or result.stdout).strip()
        )


def _write(step: Write) -> None:
    part = step.path.with_name(f".{step.path.name}.{secrets.token_hex(4)}.part")
    try:
        with private.created(part) as file:
            file.write(step.text.encode())
            if step.owner != "root":
                owner = pwd.getpwnam(step.owner)
                os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
            os.fchmod(file.fileno(), step.mode)
        part.replace(step.path)
    except OSError as error:
        raise StorageError(f"{step.path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _link(step: Link) -> None:
    part = step.path.with_name(f".{step.path.name}.{secrets.token_hex(4)}.part")
    part.symlink_to(step.target)
    part.replace(step.path)


def _remove(step: Remove) -> None:
    if step.path.is_symlink() or step.path.is_file():
        step.path.unlink()
    elif step.path.exists():
        removing.discard(str(step.path))
