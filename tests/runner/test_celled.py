"""What a container's first process does in its cell, as far as it needs none."""

from pathlib import Path

from homeport.runner import celled


def test_the_names_of_its_own_app_lead_to_the_containers_own_loopback(monkeypatch):
    written = {}
    monkeypatch.setattr(celled, "_replace", written.__setitem__)
    celled._name(["a.localhost", "b.localhost"], "nameserver 192.0.2.1\n")
    celled._name([], "")

    before = Path("/etc/hosts").read_text()
    assert {
        "/etc/hosts": f"{before}\n127.0.0.1 a.localhost b.localhost\n",
        "/etc/resolv.conf": "nameserver 192.0.2.1\n",
    } == written


def test_a_replaced_file_is_another_one(tmp_path):
    path, before = tmp_path / "hosts", tmp_path / "before"
    path.write_text("old")
    before.hardlink_to(path)
    celled._replace(str(path), "new")
    celled._replace(str(tmp_path / "absent"), "made")

    assert ("old", "new", "made") == tuple(
        file.read_text() for file in (before, path, tmp_path / "absent")
    )
