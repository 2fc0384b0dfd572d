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
