"""PURE: packages of private Git repositories, and the configuration by which git gets the token for them."""

import urllib.parse
from collections.abc import Mapping

from homeport.contract.errors import ImageError
from homeport.contract.image import Step

NAME = "pip_install_private_repos"
#: The variable of a step's secret that has the token for a host.
TOKENS = {"github.com": "GITHUB_TOKEN", "gitlab.com": "GITLAB_TOKEN"}


def requirements(step: Step) -> list[str]:
    """Return a step's repositories as pip's requirements, without the token."""
    return [f"git+https://{repository}" for repository in step.args.get("repositories", ())]


def credentials(step: Step, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which git adds user and token to the hosts' URLs.

    So the token is on no command line, and not in the records of the installed packages. `ImageError` if
    a secret lacks it.
    """
    if step.name != NAME:
        return {}
    hosts = sorted({url.partition("/")[0] for url in step.args.get("repositories", ())} & {*TOKENS})
    environ = {"GIT_CONFIG_COUNT": str(len(hosts)), "GIT_TERMINAL_PROMPT": "0"}
    for number, host in enumerate(hosts):
        token = secrets.get(TOKENS[host])
        if not token:
            raise ImageError(
                f"`{NAME}`: the secrets of the step lack `{TOKENS[host]}`",
                where=step.where,
                hint=f"`homeport secret create my-git {TOKENS[host]}=…`, and "
                f'`secrets=[modal.Secret.from_name("my-git")]`',
            )
        user = urllib.parse.quote(str(step.args.get("git_user", "")), safe="")
        url = f"https://{user}:{urllib.parse.quote(token, safe='')}@{host}/"
        environ[f"GIT_CONFIG_KEY_{number}"] = f"url.{url}.insteadOf"
        environ[f"GIT_CONFIG_VALUE_{number}"] = f"https://{host}/"
    return environ
