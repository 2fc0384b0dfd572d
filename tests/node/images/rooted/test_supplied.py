"""Secrets and volumes of a build step, and the limits that hold for it."""

import dataclasses

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image
from homeport.contract.manifest import VolumeMount
from homeport.contract.supplies import BuildSecret, Supplies
from homeport.node.images import private
from homeport.node.images.bounds import Bounds
from homeport.node.images.environments import Environments
from homeport.node.images.owned import hands
from tests.node.images.rooted.conftest import WHERE, commands, step


class Given:
    """A home whose builds get secrets and volumes."""

    def __init__(self, house):
        self.house = house
        self.supplies = Supplies()

    def volume(self, path: str, key: str, **how) -> VolumeMount:
        files = self.house.home / "volumes" / key / "files"
        if not files.is_dir():
            files.parent.mkdir(parents=True)
            hands.mkdir(files)
        return VolumeMount(path=path, name=key, key=key, **how)

    async def make(self, *steps):
        image, house = Image(steps=steps), self.house
        await house.images.make(image, str(house.source), self.supplies, house.said.append)
        return house.images.of(image)


@pytest.fixture
def given(house) -> Given:
    return Given(house)


async def test_a_secret_is_seen_by_its_own_step_alone_and_hidden_everywhere(given, base):
    secrets = (
        BuildSecret(name="one", values={"A": "first-one"}),
        BuildSecret(values={"B": "two-2"}),
    )
    given.supplies = Supplies(secrets=secrets)
    made = await given.make(
        base,
        commands('echo "$A,$B," > /seen; echo it is $A', secrets=[0]),
        commands('echo "$A,$B," >> /seen; cat /seen', secrets=[1]),
        commands('echo "$A,$B," >> /seen'),
    )

    assert "first-one,,\n,two-2,\n,,\n" == given.house.text(made, "/seen")
    assert "run_commands: it is ***" in given.house.said
    assert "first-one" not in "".join(given.house.said)
    assert "two-2" not in "".join(given.house.said)


async def test_an_app_gets_no_layer_that_was_built_with_the_secrets_of_another(given, base):
    async def built(secret: BuildSecret) -> str:
        given.supplies = Supplies(secrets=(secret,))
        made = await given.make(base, commands('echo "$URL" > /from', secrets=[0]))
        return given.house.text(made, "/from").strip()

    assert "evil" == await built(BuildSecret(values={"URL": "evil"}))
    assert "good" == await built(BuildSecret(values={"URL": "good"}))
    assert "named" == await built(BuildSecret(name="mine", values={"URL": "named"}))
    assert "named" == await built(BuildSecret(name="mine", values={"URL": "a new value"}))


async def test_a_volume_is_there_for_its_own_step_and_keeps_what_the_step_writes(given, base):
    volume = given.volume("/models", "v1")
    given.supplies = Supplies(volumes=(volume,))
    made = await given.make(
        base,
        commands("echo weights > /models/a; cat /models/a > /copied", volumes=[0]),
        commands("ls /models > /listed || echo none > /listed"),
    )

    assert "weights\n" == (given.house.home / "volumes/v1/files/a").read_text()
    assert "weights\n" == given.house.text(made, "/copied")
    assert "weights" not in given.house.text(made, "/listed")
    with pytest.raises(FileNotFoundError):
        given.house.seen(made, "/models/a")


async def test_a_volume_that_may_only_be_read_or_is_not_there_is_refused(given, base):
    given.supplies = Supplies(volumes=(given.volume("/models", "v1", read_only=True),))
    with pytest.raises(ImageError, match="exit code"):
        await given.make(base, commands("echo x > /models/a", volumes=[0]))

    gone = dataclasses.replace(given.supplies.volumes[0], key="w/e/gone", name="gone")
    given.supplies = Supplies(volumes=(gone,))
    with pytest.raises(ImageError, match="the volume `gone` was deleted") as refused:
        await given.make(base, commands("true # gone", volumes=[0]))
    assert WHERE == refused.value.where


@pytest.mark.parametrize(
    ("bounds", "command", "why"),
    [
        ({"seconds": 0.2}, "sleep 600", "it took longer than 0.2 s"),
        (
            {"memory_mib": 64},
            "python3 -c 'a = b\"x\" * 2**28; import time; time.sleep(600)'",
            "MiB of memory",
        ),
        ({"free_mib": 2**40}, "sleep 600", "it has filled the disk"),
    ],
    ids=["time", "memory", "disk"],
)
async def test_a_step_that_takes_too_much_is_ended_from_outside(
    able, base, house, bounds, command, why
):
    await house.make(base)
    usual = Bounds(seconds=600, memory_mib=2**20)
    house.images = Environments(
        house.root, rooted=True, bounds=dataclasses.replace(usual, **bounds)
    )
    failure = await house.fails(base, commands(command))

    assert why in failure.message
    assert WHERE == failure.where
    assert [] == house.half()


PRIVATE = step(
    private.NAME,
    repositories=["github.com/me/tool@v1", "gitlab.com/me/other#subdirectory=a"],
    git_user="me",
    secrets=[0],
)
#: Says what git is told, and fails, as a repository does that cannot be read.
GIT = 'echo "git $* with $GIT_CONFIG_KEY_0" >&2; env > /tmp/told; exit 1'


async def test_a_private_repository_is_fetched_with_the_secrets_token(given, base):
    given.supplies = Supplies(secrets=(BuildSecret(values={"GITHUB_TOKEN": "ghp-12345678"}),))
    with pytest.raises(ImageError, match="the secrets of the step lack `GITLAB_TOKEN`"):
        await given.make(base, PRIVATE)

    one = dataclasses.replace(
        PRIVATE, args={**PRIVATE.args, "repositories": ["github.com/me/tool"]}
    )
    fake = f"printf '#!/bin/sh\\n%s\\n' '{GIT}' > /usr/bin/git; chmod 755 /usr/bin/git"
    with pytest.raises(ImageError, match="Git operation failed") as refused:
        await given.make(base, commands(fake), one)
    told = refused.value.message + refused.value.traceback + "".join(given.house.said)
    assert "with url.https://me:***@github.com/.insteadOf" in told
    assert "ghp-12345678" not in told
