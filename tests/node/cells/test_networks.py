"""The ways out of containers, of several servers on one machine."""

import os

import pytest

from homeport.cell import report
from homeport.node.cells import networks
from homeport.node.cells.networks import Networks


@pytest.mark.skipif(os.getuid() != 0, reason="root alone")
def test_a_cable_that_another_server_has_just_laid_is_left_alone(tmp_path, monkeypatch):
    told = report.report()
    both = [Networks(told), Networks(told)]
    if not both[0].connects:
        pytest.skip("no cables here")
    monkeypatch.setattr(networks, "INTERFACES", tmp_path)  # neither sees what the other has
    first = both[0]._lay_cable()
    try:
        second = both[1]._lay_cable()
        assert first != second
        networks.network.remove(networks.Cable(second))
    finally:
        networks.network.remove(networks.Cable(first))
