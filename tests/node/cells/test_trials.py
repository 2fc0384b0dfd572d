"""What cells this machine allows is tried once, as long as nothing changes that it depends on."""

import dataclasses

import pytest

from homeport.cell.report import Report
from homeport.node.cells import trials

WHOLE = Report(possible=True, overlay=True, network=True, ids=65536, abstract_sockets=True)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "cells"
    root.mkdir()
    return root


@pytest.fixture
def tried(monkeypatch):
    """The directories that were tried; each trial says what a whole machine allows."""
    found = []

    def trial(root):
        found.append(root)
        return WHOLE

    monkeypatch.setattr(trials, "_trial", trial)
    return found


def test_an_answer_with_which_a_cell_has_worked_is_used_by_the_next_server_alone(root, tried):
    assert trials.report_for(root) == WHOLE
    trials.keep(root, dataclasses.replace(WHOLE, ids=7))

    assert trials.report_for(root).ids == 7
    assert len(tried) == 1
    assert trials.report_for(root) == WHOLE  # no cell has worked since
    assert len(tried) == 2


@pytest.mark.parametrize("lacks", ["possible", "overlay", "network"])
def test_an_isolation_that_was_not_possible_is_tried_again(root, tried, lacks):
    trials.keep(root, dataclasses.replace(WHOLE, **{lacks: False}))
    trials.report_for(root)

    assert tried == [root]


def test_isolation_is_tried_again_if_something_that_it_depends_on_has_changed(
    root, tried, tmp_path, monkeypatch
):
    boot = tmp_path / "boot_id"
    boot.write_text("one")
    monkeypatch.setattr(trials, "KERNEL_FILES", (str(boot),))
    trials.keep(root, WHOLE)
    boot.write_text("another")
    trials.report_for(root)

    assert tried == [root]


@pytest.mark.parametrize("text", ["", "{}", '{"for": 1, "told": {}}', "[]"])
def test_a_file_that_cannot_be_read_costs_a_trial(root, tried, text):
    (root.parent / "trial.json").write_text(text)

    assert trials.report_for(root) == WHOLE
    assert tried == [root]


def test_the_trial_of_this_machine_answers(root):
    assert isinstance(trials._trial(root), Report)
