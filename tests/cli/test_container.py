"""`homeport container list` says where containers are, if there is more than one place."""

import pytest

from homeport.cli import container
from homeport.contract.api.containers import ContainerStatus
from homeport.contract.container import State


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
