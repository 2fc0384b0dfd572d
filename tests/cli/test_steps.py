"""Steps of a service are carried out on files of a directory."""

import pytest

from homeport.cli.steps import carry_out
from homeport.cli.units import Link, Run, Service, Write
from homeport.contract.errors import Failure, NotFound

SERVICE = Service(domain="apps.example.com", email="ops@example.com")


def test_a_link_moves_in_one_step_and_a_file_is_whole(tmp_path):
    carry_out(
        [
            Link(tmp_path / "current", "versions/v1"),
            Link(tmp_path / "current", "versions/v2"),
            Write(tmp_path / "file", "text", 0o600),
        ],
        SERVICE,
    )

    assert "versions/v2" == str((tmp_path / "current").readlink())
    assert ("text", 0o600) == (
        (tmp_path / "file").read_text(),
        (tmp_path / "file").stat().st_mode & 0o777,
    )
    assert {"current", "file"} == {path.name for path in tmp_path.iterdir()}


def test_a_command_that_fails_ends_the_steps_with_what_it_has_printed(tmp_path):
    fails = ("sh", "-c", "echo it is full >&2; exit 3")
    later = Write(tmp_path / "later", "text")
    carry_out([Run(fails, may_fail=True)], SERVICE)
    with pytest.raises(Failure, match="failed") as failed:
        carry_out([Run(fails), later], SERVICE)
    with pytest.raises(NotFound, match="there is no program `no-such-program`"):
        carry_out([Run(("no-such-program",)), later], SERVICE)

    assert "it is full" == failed.value.traceback
    assert not later.path.exists()
