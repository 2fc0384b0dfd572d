"""The image whose zygote a server begins with."""

import stat

import pytest

from homeport.contract.image import Image, Step
from homeport.node.agent import Agent
from homeport.node.images.latest import Latest
from homeport.node.zygotes.nursery import Zygotes
from homeport.settings import Settings

PLAIN = Image(steps=(Step(name="env", args={"vars": {"COLOUR": "blue"}}),))
BUILT = Image(steps=(Step(name="pip_install", args={"packages": ["cowsay"]}),))


def test_the_latest_image_is_the_one_noted_last_or_the_usual_one_if_none_can_be_read(tmp_path):
    latest = Latest(tmp_path / "home/latest-image")
    assert Image() == latest.read()
    for image in (PLAIN, BUILT, BUILT):
        latest.note(image)
        assert image == Latest(tmp_path / "home/latest-image").read()
    (tmp_path / "home/latest-image").write_text('{"steps": 3')

    assert Image() == latest.read()


def test_an_image_is_written_once_in_a_directory_of_its_own_users(tmp_path):
    path = tmp_path / "new/home/latest-image"
    latest = Latest(path)
    latest.note(PLAIN)
    path.unlink()
    latest.note(PLAIN)

    assert [] == [*path.parent.iterdir()]
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


def test_a_home_that_cannot_be_written_is_no_error_and_the_next_time_it_is_tried_again(tmp_path):
    home = tmp_path / "home"
    home.write_text("a file")
    latest = Latest(home / "latest-image")
    latest.note(PLAIN)
    assert "a file" == home.read_text()
    home.unlink()
    latest.note(PLAIN)

    assert PLAIN == latest.read()


@pytest.fixture
def warmed(monkeypatch):
    """What zygotes were started ahead for: keys of images, and a variable."""
    told = []
    monkeypatch.setattr(
        Zygotes, "warm", lambda _, made, environ: told.append((made.key, environ.get("COLOUR")))
    )
    return told


@pytest.mark.parametrize(("image", "colour"), [(PLAIN, "blue"), (BUILT, None)])
async def test_a_server_begins_with_it_or_if_it_was_pruned_with_the_usual_one(
    tmp_path, warmed, image, colour
):
    settings = Settings(home=tmp_path / "home", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    Latest(settings.home / "latest-image").note(image)
    agent = Agent(settings)
    await agent.open()
    await agent.close()

    assert [("default", colour)] == warmed


async def test_an_image_that_was_prepared_is_noted(tmp_path, warmed):
    settings = Settings(home=tmp_path / "home", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    agent = Agent(settings)
    await agent.open()
    await agent.prepare(PLAIN, str(tmp_path), {}, lambda _line: None)
    await agent.close()

    assert PLAIN == Latest(settings.home / "latest-image").read()
