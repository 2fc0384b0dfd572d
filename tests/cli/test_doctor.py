"""What `homeport doctor` says of this machine, and of others."""

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import types

import pytest

from homeport import settings
from homeport.cli import doctor
from homeport.contract.api import alerts

H100 = "NVIDIA H100 80GB HBM3"
WHOLE = {
    "names": [H100],
    "device_files": True,
    "version": "580.95.05",
    "libraries": 13,
    "programs": 4,
    "cuda": True,
}


@pytest.mark.parametrize(
    ("told", "good", "text"),
    [
        (WHOLE, True, f"{H100}; driver 580.95.05: 13 libraries and 4 programs for images"),
        ({**WHOLE, "cuda": False}, False, f"{H100}; driver 580.95.05, without `libcuda.so.1`"),
        (
            {**WHOLE, "names": []},
            False,
            "there is `/dev/nvidiactl`, but the driver answers nothing",
        ),
        ({"names": [], "device_files": False}, True, "none"),
    ],
)
def test_doctor_lists_gpus_with_their_driver(monkeypatch, told, good, text):
    monkeypatch.setattr(doctor, "_run_module", printing(json.dumps(told)))
    finding = doctor._gpus()

    assert (good, text) == (finding.good, finding.text)
    assert good or finding.hint
    assert good or not finding.needed  # homeport works without


@pytest.mark.parametrize(
    ("printed", "good", "text"),
    [
        ("own\n", True, "each container has a /tmp of its own"),
        ("", False, "containers share it, and have a TMPDIR of their own"),
    ],
)
def test_doctor_says_whether_containers_share_their_temporary_files(
    monkeypatch, printed, good, text
):
    monkeypatch.setattr(doctor, "_run_module", printing(printed))
    finding = doctor._tmp()

    assert (good, text) == (finding.good, finding.text)
    assert good or finding.hint
    assert good or not finding.needed  # homeport works without


SANDBOX = {"possible": True, "ids": 65536, "overlay": True, "network": True, "abstract_sockets": True}  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "told", "text"),
    [
        ("auto", {}, "each container has a sandbox of 65536 users, files on the disk"),
        ("off", {}, "each container could have a sandbox of 65536 users, files on the disk"),
        ("auto", {"ids": 1}, "each container has a sandbox of one user, files on the disk"),
        (
            "auto",
            {"overlay": False, "network": False, "abstract_sockets": False},
            (
                "each container has a sandbox of 65536 users, files in memory, "
                "no network of its own, abstract sockets of this machine are in reach"
            ),
        ),
    ],
)
def test_doctor_says_what_the_sandbox_of_a_container_has(
    monkeypatch, tmp_path, setting, told, text
):
    monkeypatch.setattr(doctor, "_run_module", printing(json.dumps({**SANDBOX, **told})))
    finding = doctor._isolation(settings_of(tmp_path, HOMEPORT_ISOLATION=setting))

    assert (True, f"{text} (`isolation` is `{setting}`)") == (finding.good, finding.text)


@pytest.mark.parametrize(("setting", "needed"), [("auto", False), ("on", True)])
def test_a_machine_without_sandboxes_fails_where_they_are_wanted(
    monkeypatch, tmp_path, setting, needed
):
    why = {"possible": False, "why": "no user namespaces", "hint": "allow them"}
    monkeypatch.setattr(doctor, "_run_module", printing(json.dumps(why)))
    finding = doctor._isolation(settings_of(tmp_path, HOMEPORT_ISOLATION=setting))

    assert (False, needed, "allow them") == (finding.good, finding.needed, finding.hint)
    assert finding.text == f"no user namespaces (`isolation` is `{setting}`)"


def test_a_home_below_a_file_is_a_finding_and_no_traceback(tmp_path):
    (tmp_path / "file").write_text("")
    below = dataclasses.replace(settings_of(tmp_path), home=tmp_path / "file/home")
    for finding in (doctor._home(below), doctor._isolation(below)):
        assert (False, True) == (finding.good, finding.needed)
        assert "cannot be written: Not a directory" in finding.text
        assert "HOMEPORT_HOME" in finding.hint


CHECKS = {
    "HAProxy": lambda home: doctor._haproxy(settings_of(home)),
    "uv": lambda _home: doctor._uv(),
    "database": lambda home: doctor._database(settings_of(home)),
    "limits": lambda home: doctor._limits(settings_of(home)),
    "isolation": lambda home: doctor._isolation(settings_of(home)),
    "images": lambda _home: doctor._images(),
    "GPUs": lambda _home: doctor._gpus(),
}


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("ends", [True, False], ids=["it fails", "it hangs"])
def test_a_check_that_cannot_be_made_is_a_finding_and_no_traceback(
    monkeypatch, tmp_path, what, ends
):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n" + ("echo broken >&2; exit 1" if ends else "exec sleep 60"))
    program.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(program))
    monkeypatch.setattr(doctor, "PATIENCE_S", 60 if ends else 0.1)
    finding = CHECKS[what](tmp_path)

    assert (what, False) == (finding.what, finding.good)
    if what in ("HAProxy", "uv", "images", "GPUs"):
        assert ("broken" if ends else "has not ended within 0.1 s") in finding.text
    if what == "database":
        assert ("broken" if ends else "it has not answered within 0.1 s") == finding.text


def settings_of(home, **environ):
    return settings.load({"HOMEPORT_HOME": str(home), **environ})


def printing(text: str):
    """Return a `_run_module` whose module prints this text."""
    return lambda *_words: subprocess.CompletedProcess([], 0, stdout=text, stderr="")


def test_on_a_machine_that_has_joined_the_agent_is_looked_at(tmp_path):
    assert [] == doctor._agent(settings_of(tmp_path))
    (tmp_path / "cluster").mkdir()
    joined = tmp_path / "cluster/joined.json"
    joined.write_text('{"name": "b", "address": "10.0.0.1:7600"}')
    (down,) = doctor._agent(settings_of(tmp_path))
    assert (False, True) == (down.good, bool(down.hint))
    assert "this machine is `b` of 10.0.0.1:7600, and its agent does not run" == down.text
    (tmp_path / "lock").write_text(f"{os.getpid()}\n")
    (up,) = doctor._agent(settings_of(tmp_path))
    assert (True, f"and its agent runs (pid {os.getpid()})") == (up.good, up.text.split(", ")[1])
    joined.write_text("{")

    assert [] == doctor._agent(settings_of(tmp_path))


@pytest.mark.parametrize(
    ("nodes", "problems", "expected"),
    [
        ({}, [], []),
        ({"b": "ready"}, [], [(True, "1 besides this one")]),
        ({"b": "gone"}, [("machine", "`b`: it is away", True)], [(False, "`b`: it is away")]),
        ({"b": "ready"}, [("app", "broken", True)], [(True, "1 besides this one")]),
    ],
)
def test_machines_that_have_joined_are_checked_by_the_server(
    monkeypatch, tmp_path, nodes, problems, expected
):
    findings = [
        alerts.Finding(what=what, text=text, needed=needed) for what, text, needed in problems
    ]

    async def status():
        return types.SimpleNamespace(pid=1, host="::", http_port=1, apps=(), nodes=nodes)

    async def found():
        return findings

    client = types.SimpleNamespace(
        server=types.SimpleNamespace(status=status),
        alerts=types.SimpleNamespace(findings=found),
    )
    monkeypatch.setattr(doctor.server, "running", lambda _settings: contextlib.nullcontext(client))
    monkeypatch.setattr(doctor.output, "address", lambda _status: "here")
    first, *machines = asyncio.run(doctor._server(settings_of(tmp_path)))

    assert first.good
    assert expected == [(finding.good, finding.text) for finding in machines]
