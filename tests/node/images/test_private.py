"""Packages of private repositories."""

from homeport.contract.image import Step
from homeport.node.images import private

PRIVATE = Step(
    name=private.NAME,
    args={
        "repositories": ["github.com/me/tool@v1", "gitlab.com/me/other#subdirectory=a"],
        "git_user": "me",
    },
)


def test_the_token_is_added_by_git_itself():
    environ = private.credentials(PRIVATE, {"GITHUB_TOKEN": "a/b", "GITLAB_TOKEN": "c"})

    assert "url.https://me:a%2Fb@github.com/.insteadOf" == environ["GIT_CONFIG_KEY_0"]
    assert "https://gitlab.com/" == environ["GIT_CONFIG_VALUE_1"]
    assert [
        "git+https://github.com/me/tool@v1",
        "git+https://gitlab.com/me/other#subdirectory=a",
    ] == private.requirements(PRIVATE)
