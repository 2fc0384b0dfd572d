"""`homeport image …` as a user types it."""

import dataclasses
import json

from homeport.cli import image, output
from homeport.contract.image import Environment
from tests.fakes import FakeNode

ONE = Environment(
    key="abc1", steps=("debian_slim", "pip_install flask"), python_version="3.12.1",
    size_bytes=3 * 1024 * 1024, created_at=1.0, used_at=2.0,
)  # fmt: skip
OTHER = dataclasses.replace(ONE, key="abd2", steps=(f"run_commands {'x ' * 90}\n y",))


class Node(FakeNode):
    """A node on which two layers were built."""

    async def environments(self):
        return [ONE, OTHER]

    async def build_log(self, key):
        return {ONE.key: "Collecting flask\n\x1b[2Jdone\n", OTHER.key: ""}[key]

    async def prune(self, keep):
        return [ONE]


async def test_images_are_listed_read_and_removed(typed):
    async with typed(Node(0.01)) as user:
        told = json.loads((await user.run("image", "list", "--json")).stdout)
        table = (await user.run("image", "list")).stdout
        log = await user.run("image", "log", "abc")
        as_json = json.loads((await user.run("image", "log", "abc1", "--json")).stdout)
        silent = await user.run("image", "log", "abd2")
        several = await user.refused("image", "log", "ab")
        none = await user.refused("image", "log", "x")
        unasked = await user.refused("image", "prune")
        pruned = await user.run("image", "prune", "--yes")

    assert ["abc1", "abd2"] == [row["key"] for row in told]
    one, other = table.splitlines()[1:]
    assert ["abc1", "3.12.1", "2", "pip_install", "flask", "3.0", "MiB"] == one.split()[:7]
    assert one.split()[-4:] == [*output.local_time(1.0).split(), *output.local_time(2.0).split()]
    assert "x …" in other
    assert log.stdout.startswith("Collecting flask\n")
    assert (2, 0) == (log.stdout.count("\n"), log.stdout.count("\x1b"))
    assert {"key": "abc1", "text": "Collecting flask\n\x1b[2Jdone\n"} == as_json
    assert "its build printed nothing" in silent.stderr
    assert "2 images have a key that begins with `ab`" in several
    assert "no images have a key that begins with `x`" in none
    assert "Rerun with --yes" in unasked
    assert "✓ 1 image removed, 3.0 MiB" in pruned.stderr


async def test_a_question_is_not_asked_for_a_server_that_does_not_run(answered):
    async with answered({}) as user:
        pass

    assert "no server answers" in await user.refused("image", "prune")


def test_a_size_is_shown_in_the_unit_that_fits():
    shown = [
        image.size(count) for count in (0, 1023, 1024, 1536 * 1024, 5 * 1024**3, 4096 * 1024**4)
    ]

    assert ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "4096.0 TiB"] == shown


def test_a_long_step_is_shown_in_one_line_of_sixty_characters():
    assert "a b c" == image.shortened("a  b\n c")
    assert "x" * 60 == image.shortened("x" * 60)
    assert "x" * 59 + "…" == image.shortened("x" * 61)
