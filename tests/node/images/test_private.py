"""Packages of private repositories."""

import os
import shutil
import subprocess

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Step
from homeport.node.images import private

PRIVATE = Step(
    name="pip_install_private_repos",
    args={
        "repositories": ["github.com/me/tool@v1", "gitlab.com/me/other#subdirectory=a"],
        "git_user": "me",
    },
    where="a.py:3",
)


def test_the_token_is_added_by_git_itself():
    environ = private.credentials(PRIVATE, {"GITHUB_TOKEN": "a/b", "GITLAB_TOKEN": "c"})

    assert "url.https://me:a%2Fb@github.com/.insteadOf" == environ["GIT_CONFIG_KEY_0"]
    assert "https://gitlab.com/" == environ["GIT_CONFIG_VALUE_1"]
    assert [
        "git+https://github.com/me/tool@v1",
        "git+https://gitlab.com/me/other#subdirectory=a",
    ] == private.requirements(PRIVATE)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/me/tool", "https://me:a%2Fb@github.com/me/tool"),
        ("https://gitlab.com/me/other", "https://me:c@gitlab.com/me/other"),
        ("https://example.com/me/tool", "https://example.com/me/tool"),
    ],
)
def test_git_sends_each_token_to_its_own_host_alone_and_asks_nobody(tmp_path, url, expected):
    environ = private.credentials(PRIVATE, {"GITHUB_TOKEN": "a/b", "GITLAB_TOKEN": "c"})
    asked = subprocess.run(
        ["git", "ls-remote", "--get-url", url],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert expected == asked.stdout.strip()
    assert "0" == environ["GIT_TERMINAL_PROMPT"]  # man 1 git: do not ask on the terminal


@pytest.mark.parametrize("secrets", [{}, {"GITHUB_TOKEN": ""}, {"GITLAB_TOKEN": "c"}])
def test_a_step_without_its_token_says_which_one_its_secrets_lack(secrets):
    with pytest.raises(ImageError, match="lack `GITHUB_TOKEN`") as caught:
        private.credentials(PRIVATE, secrets)

    assert "a.py:3" == caught.value.where
    assert "homeport secret create my-git GITHUB_TOKEN=…" in caught.value.hint


def test_other_steps_get_no_token():
    step = Step(name="pip_install", args={"repositories": ["github.com/me/tool"]})

    assert {} == private.credentials(step, {"GITHUB_TOKEN": "a"})
