"""What the containers of functions used, in files and added up."""

import os

import pytest

from homeport.state.grids import window
from homeport.state.scope import MAIN, Scope
from homeport.state.usage import PARTS, Sample, Usages

OTHER = Scope("acme", "main")
NOW = 100_020.0  # in the middle of a minute


def sample(function: str = "price", **changes) -> Sample:
    """Return what one container used."""
    usual = {"containers": 1, "cold_starts": 0, "failed_starts": 0, "cpu_s": 0.0}
    usual |= {"memory_mib": 30, "gpu_memory_mib": 0, "app": "shop", "function": function}
    return Sample(**{**usual, **changes})


class House:
    def __init__(self, root, cap_bytes: int = 1024 * 1024) -> None:
        self.root = root
        self.usages = Usages(root, cap_bytes, lambda: NOW)

    def add(self, at: float, *samples: Sample, span_s: float = 15.0, scope: Scope = MAIN) -> None:
        self.usages.add(NOW - at, span_s, {scope: samples})

    def ask(self, scope: Scope = MAIN, step_s: int = 60, wants=lambda _app, _function: True):
        wanted = window(NOW - 600, NOW, step_s)
        _, used = self.usages.functions(scope, wanted, wants)
        return {series.function: series for series in used}


@pytest.fixture
def house(tmp_path):
    return House(tmp_path / "usage")


def test_a_step_has_the_most_of_what_was_there_and_the_sum_of_what_happened(house):
    house.add(30, sample(containers=2, memory_mib=50, cold_starts=2, cpu_s=3.0))
    house.add(5, sample(containers=1, memory_mib=30, cpu_s=0.75, gpu_memory_mib=7))
    house.add(20, sample(containers=3, memory_mib=90, cold_starts=1, failed_starts=4))
    price = house.ask()["price"]

    # NOW is 60 seconds after 99960, where the last whole step begins.
    assert (3, 3, 4) == (price.containers[-1], price.cold_starts[-1], price.failed_starts[-1])
    assert (90, 7) == (price.memory_mib[-1], price.gpu_memory_mib[-1])
    assert 3.75 / 60 == pytest.approx(price.cpu_cores[-1], abs=0.001)
    assert {0} == {*price.containers[:-1]}
    assert 10 == len(price.containers) == len(price.cpu_cores)


def test_a_look_belongs_to_each_step_that_it_looks_back_at(house):
    house.add(55, sample(cpu_s=15.0, cold_starts=1))  # a third of it is in the last minute
    price = house.ask()["price"]

    assert (1, 1) == price.containers[-2:]
    assert (0, 1) == price.cold_starts[-2:]
    assert pytest.approx((10 / 60, 5 / 60), abs=0.001) == price.cpu_cores[-2:]
    short = house.ask(step_s=10)["price"]
    assert pytest.approx((1.0, 0.5, 0.0), abs=0.001) == short.cpu_cores[-7:-4]


def test_a_restart_keeps_it_and_half_a_line_is_let_be(house):
    house.add(20, sample())
    (path,) = house.root.glob("*.log")
    with path.open("a") as file:
        file.write('[100000,15,[["shop","pri')
    later = House(house.root)
    later.add(5, sample(containers=4))

    assert 4 == max(later.ask()["price"].containers)
    assert 3 == len(path.read_text().splitlines())


def test_an_environment_has_its_own(house):
    house.add(5, sample("ours"))
    house.add(5, sample("theirs"), scope=OTHER)
    assert ["ours"] == [*house.ask()]
    assert ["theirs"] == [*house.ask(OTHER)]
    house.usages.remove(OTHER)
    house.usages.remove(MAIN)  # it always is

    assert {} == house.ask(OTHER)
    assert ["ours"] == [*house.ask()]


def test_only_what_is_wanted_is_told(house):
    house.add(5, sample("a"), sample("b"), sample("quiet", containers=0))

    assert ["a", "b"] == [*house.ask()]
    assert ["b"] == [*house.ask(wants=lambda _app, function: function == "b")]


def test_the_files_are_never_larger_than_the_cap(tmp_path):
    house = House(tmp_path / "usage", 8_000)
    for number in range(300):
        house.add(600 - number, sample(containers=number))
    paths = list(house.root.glob("*.log"))

    assert PARTS == len(paths)
    assert sum(path.stat().st_size for path in paths) <= 8_000
    assert 299 == max(house.ask()["price"].containers)


def test_a_full_disk_loses_it_and_says_so_once(house, monkeypatch, caplog):
    def refuse(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        house.add(30, sample())
        house.add(25, sample())
    house.add(5, sample(containers=2))

    assert 1 == len(caplog.messages)
    assert "No space left" in caplog.text
    assert 2 == max(house.ask()["price"].containers)
