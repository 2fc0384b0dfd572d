"""Steps of a service are carried out on files of a directory."""

from homeport.cli.steps import carry_out
from homeport.cli.units import Link, Service, Write

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
