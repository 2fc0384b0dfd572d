"""What `homeport service` writes and runs, without doing it."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from homeport.cli import units
from homeport.cli.units import Link, Remove, Run, Service, Write
from homeport.contract.errors import BadRequest

SERVICE = Service(domain="apps.example.com", email="ops@example.com")


def steps(**changes):
    told = {
        "version": "v1",
        "source": ["homeport[postgres]==1.2"],
        "uv": "/uv",
        "python": "/usr/bin/python3.11",
        "has_user": False,
        "has_config": False,
        "subordinates": 165536,
    }
    return units.install(SERVICE, **{**told, **changes})


def test_an_installation_ends_with_a_service_that_starts_with_the_machine():
    done = steps()
    words = [step.words for step in done if isinstance(step, Run)]
    [link] = [step for step in done if isinstance(step, Link)]
    files = {step.path: step for step in done if isinstance(step, Write)}

    assert "useradd" == words[0][0]
    assert (
        "usermod",
        "--add-subuids",
        "165536-231071",
        "--add-subgids",
        "165536-231071",
        "homeport",
    ) == words[1]
    assert ("systemctl", "enable", "--now", "homeport.service") == words[-1]
    assert (Path("/opt/homeport/current"), "versions/v1") == (link.path, link.target)
    assert {
        Path("/var/lib/homeport/config.toml"),
        Path("/etc/systemd/system/homeport.service"),
    } == set(files)
    assert (0o600, "homeport") == (
        files[Path("/var/lib/homeport/config.toml")].mode,
        files[Path("/var/lib/homeport/config.toml")].owner,
    )


def test_a_user_and_a_configuration_that_exist_are_neither_made_nor_replaced():
    done = steps(has_user=True, has_config=True, subordinates=None)

    assert not [step for step in done if isinstance(step, Run) and step.words[0].startswith("user")]
    assert ["/etc/systemd/system/homeport.service"] == [
        str(step.path) for step in done if isinstance(step, Write)
    ]


def test_the_unit_keeps_containers_and_lets_cells_have_users():
    lines = units.unit(SERVICE).splitlines()

    for line in (
        "Delegate=yes",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "User=homeport",
        "Restart=on-failure",
    ):
        assert line in lines
    # Each of them implies NoNewPrivileges= for a service without root: newuidmap would have no rights.
    for word in (
        "NoNewPrivileges",
        "SystemCall",
        "Restrict",
        "PrivateDevices",
        "ProtectKernel",
        "ProtectClock",
        "LockPersonality",
        "MemoryDeny",
        "DynamicUser",
        "ProtectHostname",
    ):
        assert word not in units.unit(SERVICE)


@pytest.mark.parametrize("service", [SERVICE, Service(is_node=True)], ids=["server", "node"])
def test_systemd_understands_the_unit(tmp_path, service):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there")
    path = tmp_path / service.unit
    # These need the user and the program to exist.
    text = units.unit(service).replace("/opt/homeport/current/bin/python", "/bin/true")
    path.write_text(text.replace("=homeport\n", "=root\n"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    about_it = [line for line in done.stderr.splitlines() if "homeport" in line]

    assert [] == about_it


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"tls": "acme", "email": "ops@example.com"}),
        ({"tls": "off", "email": ""}, {"tls": "off", "http_port": 80}),
        ({"tls": "files", "email": ""}, {"tls": "files"}),
    ],
)
def test_the_settings_that_are_written_are_settings(changes, expected):
    told = {"domain": "apps.example.com", "email": "ops@example.com", **changes}
    written = tomllib.loads(units.config(Service(**told)))

    assert {
        "host": "0.0.0.0",
        "domain": "apps.example.com",
        "workspace": "main",
        **expected,
    } == written


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"user": "root"}, "cannot be the service's user"),
        ({"user": "a\nb"}, "cannot be a user's name"),
        ({"user": "-x"}, "cannot be the service's user"),
        ({"home": Path("/")}, "not one of its own"),
        ({"home": Path("/var")}, "not one of its own"),
        ({"home": Path("relative/x")}, "absolute"),
        ({"home": Path("/var/lib/x y")}, "plain characters"),
        ({"home": Path("/var/lib/../..")}, "plain characters"),
        ({"email": ""}, "need `--email`"),
    ],
)
def test_a_value_that_a_unit_or_a_purge_would_misread_is_refused(changes, why):
    told = {"domain": "apps.example.com", "email": "ops@example.com", **changes}
    with pytest.raises(BadRequest, match=why):
        Service(**told)


def test_only_purge_deletes_the_home_and_the_user():
    kept, purged = units.uninstall(SERVICE, purge=False), units.uninstall(SERVICE, purge=True)

    assert Remove(SERVICE.home) not in kept
    assert kept == purged[: len(kept)]
    assert [Remove(SERVICE.home), Run(("userdel", "homeport"), may_fail=True)] == purged[
        len(kept) :
    ]


def test_an_installed_service_is_found_again_from_its_unit():
    other = Service(domain="x.example.com", tls="off", user="web", home=Path("/srv/data/web"))
    found = units.installed(units.unit(other))

    assert (other.user, other.home, other.root) == (found.user, found.home, found.root)
    with pytest.raises(BadRequest, match="was not written by"):
        units.installed("[Service]\nExecStart=/usr/bin/homeport up\n")


def test_ids_for_cells_are_free_ones():
    assert 100_000 == units.free_subordinates("", "")
    assert 231_072 == units.free_subordinates(
        "ada:100000:65536\nbob:165536:65536\n", "ada:100000:65536"
    )
    assert 100_000 == units.free_subordinates("no line\nx:y:z\n")


def test_a_step_is_shown_as_a_person_would_type_it():
    assert "install -d '/a b'" == units.shown(Run(("install", "-d", "/a b")))
    assert "rm -rf /opt/homeport" == units.shown(Remove(Path("/opt/homeport")))
    assert "ln -sfn versions/v2 /opt/homeport/current" == units.shown(
        Link(Path("/opt/homeport/current"), "versions/v2")
    )


NODE = Service(is_node=True)


def test_the_unit_of_a_node_is_as_that_of_a_server():
    node, server = units.unit(NODE).splitlines(), units.unit(SERVICE).splitlines()

    assert "ExecStart=/opt/homeport/current/bin/python -m homeport node join --foreground" in node
    assert "ConditionPathExists=/var/lib/homeport/cluster/joined.json" in node
    assert {"ExecStart", "Description", "After"} == {
        line.partition("=")[0] for line in server if line not in node
    }  # fmt: skip


def test_a_node_is_found_again_from_its_unit():
    found = units.installed(units.unit(NODE))

    assert (True, "homeport-node.service", NODE.home) == (found.is_node, found.unit, found.home)
    assert not units.installed(units.unit(SERVICE)).is_node


def test_a_node_joins_before_its_service_starts_and_has_no_settings_of_a_server():
    told = {"version": "v1", "source": [], "uv": "/uv", "python": "/py", "has_user": True}
    before = units.laid(NODE, **told, subordinates=None)
    after = units.started(NODE)

    assert not [step for step in before if isinstance(step, Write)]
    assert [NODE.units / "homeport-node.service"] == [
        step.path for step in after if isinstance(step, Write)
    ]
    assert ("systemctl", "enable", "--now", "homeport-node.service") == after[-1].words
