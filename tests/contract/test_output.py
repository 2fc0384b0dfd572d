"""The marks in a container's output, which it cannot forge, and those of a build."""

import pytest

from homeport.contract import output


def test_a_step_is_read_as_it_was_written():
    assert (2, 3, "uv_pip_install", "price") == output.read_step(
        output.step(2, 3, "uv_pip_install", "price")
    )
    assert (1, 1, "apt_install", "") == output.read_step(output.step(1, 1, "apt_install"))


def test_the_end_of_the_steps_has_no_name():
    assert (0, 3, "-", "the price") == output.read_step(output.step(0, 3, "", "the price"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "uv_pip_install: + six",
        "1 2 env f",
        "\x1c",
        "\x1c1 2",
        "\x1c1 x env f",
        "\x1c1 -2 env f",
        "\x1c 1 env f",
        "\x1c1 ² env f",
    ],
)
def test_another_line_is_no_step(line):
    assert output.read_step(line) is None


def test_dropped_lines_are_counted():
    line = output.dropped(3, 4096)

    assert line.endswith(b"\n")
    assert (3, 4096) == output.read_dropped(line.rstrip(b"\n"))


@pytest.mark.parametrize(
    "line", [b"", b"3 4096", b"\x1d", b"\x1d\x1d3 4096", b"\x1d3", b"\x1d3 x", b"\x1d1 2 3"]
)
def test_a_line_of_the_container_drops_nothing(line):
    assert output.read_dropped(line) is None
