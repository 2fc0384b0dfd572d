"""`homeport container …`: what is listed, and what the commands do."""

import json
import time

import pytest

from homeport.cli import container
from homeport.contract.api.containers import ContainerStatus
from homeport.contract.container import LogLine, State
from tests.control.plane import function, manifest
from tests.waiting import until


def table_of(capsys, *nodes: str) -> str:
    """What the command prints of containers on these nodes."""
    containers = [
        ContainerStatus(
            id=f"ta-{number}", app="shop", function="f", revision="rv-1", state=State.READY,
            pid=7, started_at=1.0, node=node,
        )
        for number, node in enumerate(nodes)
    ]  # fmt: skip
    container.show(containers)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("nodes", "shown"), [(("here", "here"), False), (("here", "far"), True), ((), False)]
)
def test_the_node_is_shown_where_there_are_several(monkeypatch, capsys, nodes, shown):
    monkeypatch.setenv("COLUMNS", "200")
    text = table_of(capsys, *nodes)

    assert shown == ("Node" in text) == ("far" in text)


@pytest.mark.parametrize("gpus", [(), ("GPU-0fab241b-cdd5-b7ae", "GPU-6a76d6df-d653-83be")])
def test_gpus_are_shown_where_a_container_has_one(monkeypatch, capsys, gpus):
    monkeypatch.setenv("COLUMNS", "200")
    one = ContainerStatus(
        id="ta-0", app="shop", function="f", revision="rv-1", state=State.READY, pid=7,
        started_at=1.0, gpus=gpus,
    )  # fmt: skip
    container.show([one])
    text = capsys.readouterr().out

    assert bool(gpus) == ("GPUs" in text) == ("GPU-0fab241b GPU-6a76d6df" in text)


def ready(user, container: str) -> bool:
    """Return whether the container serves."""
    running = [each.order.id for each in user.node.containers if each.state is State.READY]
    return container in running


async def test_a_container_is_listed_read_and_ended(typed):
    async with typed() as user:
        assert "no container runs" in (await user.run("container", "list")).stderr
        await user.plane.deploy(manifest(function("web")))
        (told,) = json.loads((await user.run("container", "list", "--json")).stdout)
        row = (await user.run("container", "list")).stdout.splitlines()[1]
        container = told["id"]
        for text, where in (("mine", container), ("more", container), ("other", "ta-9")):
            line = LogLine(at=time.time(), app="shop", function="web", container=where, text=text)
            user.server.logs.write(line)
        lines = (await user.run("container", "logs", container)).stdout
        last = (await user.run("container", "logs", container, "-n", "1", "--timestamps")).stdout
        unknown = await user.refused("container", "logs", "ta-9")
        unasked = await user.refused("container", "stop", container)
        stopped = await user.run("container", "stop", container, "--yes")
        await until(lambda: not ready(user, container), "the container's end")
        missing = await user.refused("container", "stop", "ta-9", "--yes")

    assert [container, "shop", "web", "ready"] == row.split()[:4]
    assert f"web {container} mine\nweb {container} more\n" == lines
    assert last.startswith("20")
    assert last.endswith(f" web {container} more\n")
    assert "there is no container `ta-9`" in unknown
    assert "`homeport app logs APP --container ID` has the lines of one that ended" in unknown
    assert "Rerun with --yes" in unasked
    assert f"✓ `{container}` is ending" in stopped.stderr
    assert "ta-9" in missing
