"""A real Ray cluster, whose autoscaler adds a machine for what has no place, and removes it again."""

import contextlib
import json
import os
import sys
from pathlib import Path

import psutil
import pytest

from tests import namespaces, processes
from tests.journeys import probers
from tests.journeys.conftest import ROOT
from tests.journeys.machines import On
from tests.journeys.probers import Facts, Probers
from tests.namespaces import Machines
from tests.waiting import PATIENCE_S, wait_for

pytest.importorskip("ray")
RAY = Path(sys.executable).with_name("ray")
GCS_PORT = 6379
TOKEN = "of-this-test-" + "0123456789abcdef" * 2
#: Of each machine that Ray's provider of fake machines adds: more memory than any script asks for.
ADDED = {"resources": {"CPU": 4, "memory": 2**40, "of-eu": 1}, "node_config": {}, "min_workers": 0}
ENVIRON = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
SCRIPT = """
    import modal

    app = modal.App("large")

    @app.function(memory={memory}, min_containers=2)
    @modal.fastapi_endpoint()
    def hello():
        return "hello"
"""


#: Two regions: the first machine is in one, and Ray adds machines in the other.
REGIONS = {
    "HOMEPORT_REGION": "us",
    "HOMEPORT_RAY_NODE_TYPES": "of-eu: cpu=4 memory=1048576 region=eu-west",
}
IN_A_REGION = """
    import modal

    app = modal.App("abroad")

    @app.function(region="{region}")
    @modal.fastapi_endpoint()
    def hello():
        return "hello"
"""


@pytest.fixture
def first(tmp_path, request):
    """The machine of Ray's head, on which the control plane is going to run; its parameter is more variables."""
    more = getattr(request, "param", {})
    if why := namespaces.lacks():
        pytest.skip(why)
    with Machines() as machines:
        machine = machines.add("first")
        address = f"{machine.address}:{GCS_PORT}"
        (shared := tmp_path / "shared").mkdir()
        own = {"HOMEPORT_RAY": address, "HOMEPORT_SHARED_VOLUMES": str(shared)}
        terminal = On(machine, tmp_path / "home", ENVIRON | own | more)
        head = machine.start(
            *(RAY, "start", "--head", "--block", f"--node-ip-address={machine.address}"),
            *(f"--port={GCS_PORT}", "--num-cpus=0", "--include-dashboard=false"),
            *("--object-store-memory=80000000", "--disable-usage-stats"),
            f"--autoscaling-config={_provider(tmp_path)}",
            environ=terminal.environ
            | {"PATH": f"{RAY.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
            log=tmp_path / "ray.log",
        )
        try:
            yield terminal
        finally:
            for log in _logs(terminal):
                print(log.name, log.read_text()[-3000:])
            terminal.close()
            head.wait(PATIENCE_S)


def _provider(directory: Path) -> Path:
    config = {
        "cluster_name": "fake",
        "max_workers": 1,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            "module": "tests.journeys.ray_provider.Provider",
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "head_node_id": "fffffffffffffffffffffffffffffffffffffffffffffffffff00000",
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "added": ADDED | {"max_workers": 1},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 100.0,
        "auth": {},
        "docker": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
    (path := directory / "autoscaling.json").write_text(json.dumps(config))
    return path


def _logs(terminal: On) -> list[Path]:
    """Return what explains a failure: what Ray has told homeport, and the log of its autoscaler."""
    autoscaler = terminal.machine.path(Path("/tmp/ray")).glob("session_2*/logs/monitor.log")
    return [log for log in (terminal.home / "ray.log", *autoscaler) if log.exists()]


@pytest.mark.soak
def test_a_machine_is_added_for_what_has_no_place_and_removed_when_nothing_needs_it(
    first, write, tmp_path
):
    def said(text: str) -> bool:
        return text in (first.home / "server.log").read_text()

    def nodes() -> list[dict]:
        return first.ask("/v1/nodes")["nodes"]

    first.run("up")
    first.run("node", "token", "--listen", f"{first.machine.address}:7600")
    most = psutil.virtual_memory().total // 2**20 * 6 // 10
    first.deploy(write(SCRIPT.format(memory=most)))
    wait_for(lambda: said("has 1 machines"), "Ray's head")
    (added,) = wait_for(lambda: [n for n in nodes() if n["health"] == "ready"], "a machine")
    assert added["name"].startswith("ray-")
    wait_for(lambda: nodes()[0]["containers"], "the container that had no place")

    # Nothing needs it any more.
    first.run("app", "stop", "large", "-y")
    wait_for(lambda: not nodes(), "the machine to be removed")

    # It is added again. Then Ray's head dies, and then its raylets, and nothing else does.
    urls = first.deploy(write(probers.script(memory=most, both=2)))
    wait_for(
        lambda: {"here", added_now(nodes())} <= {c["node"] for c in ready(first)},
        "a container on each machine",
    )
    facts = Facts(first, tmp_path / "shared")
    with Probers(first, urls["both"]) as visitors:
        for name in ("gcs_server", "raylet"):
            dying = named(first, name)
            assert dying
            for process in dying:
                with contextlib.suppress(psutil.Error):  # one ends with another
                    process.kill()
            assert [] == processes.living(*(process.pid for process in dying))
            visitors.more(500)
    print(probers.describe("Ray dies", visitors.asked, facts.begun()))
    assert [] == [str(each) for each in visitors.asked if each.failed]
    assert {each["id"] for each in ready(first)} <= {each.container for each in visitors.asked}
    assert {} == facts.twice()
    assert "asked" in {app["name"] for app in first.status()["apps"]}


def named(first: On, name: str) -> list[psutil.Process]:
    """Return the processes of the machine with this name."""
    found = []
    for process in first.machine.processes():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if process.name() == name:
                found.append(process)
    return found


def ready(first: On) -> list[dict]:
    return [each for each in first.containers() if each["state"] == "ready"]


def added_now(nodes: list[dict]) -> str:
    """Return the machine that Ray has added; a text that none has while it has none."""
    return next((node["name"] for node in nodes if node["health"] == "ready"), "none yet")


@pytest.mark.soak
@pytest.mark.parametrize("first", [REGIONS], indirect=True)
def test_a_function_that_no_machine_could_run_waits_for_one_of_a_type_that_ray_could_add(
    first, write
):
    first.run("up")
    first.run("node", "token", "--listen", f"{first.machine.address}:7600")
    nowhere = first.run("deploy", write(IN_A_REGION.format(region="ap")), check=False)
    assert 1 == nowhere.returncode
    assert "is for the region ap, and no machine that answers is in it" in nowhere.stderr
    said = first.run("deploy", write(IN_A_REGION.format(region="eu")))

    assert "it waits for a machine `of-eu` of the Ray cluster" in said.stdout + said.stderr
    (added,) = first.ask("/v1/nodes")["nodes"]
    assert ({"region": "eu-west"}, 1) == (added["labels"], added["containers"])
