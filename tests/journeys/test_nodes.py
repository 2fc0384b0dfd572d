"""Another machine joins, is labelled, drained and removed, by the commands; its containers end with the server."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import isolation, processes
from tests.journeys.conftest import Command, Terminal
from tests.waiting import wait_for

APP = """
import homeport

app = homeport.App("spread")


@app.function(min_containers=2)
@homeport.fastapi_endpoint()
def web():
    return "here"
"""


@pytest.fixture
def other(tmp_path) -> Iterator[Terminal]:
    """A second home, as another machine has. Its HAProxy outlives an agent that is killed."""
    made = Terminal(tmp_path / "other")
    yield made
    made.close()
    processes.end_of(tmp_path / "other")


@pytest.fixture
def words(terminal) -> list[str]:
    """The command with which the other machine joins a server that runs."""
    terminal.environ["HOMEPORT_NODE_NETWORKS"] = "127.0.0.0/8"  # the other machine is this one
    terminal.run("up")
    made = terminal.run("node", "token", "--listen", "127.0.0.1:0").stdout
    words = shlex.split(made)
    assert ["homeport", "node", "join"] == words[:3]
    return [*words[1:], "--name", "worker-1"]


def join(terminal: Terminal, other: Terminal, *words: str) -> Command:
    """Start the agent; return when it is connected."""
    agent = other.start(*words)
    until_ready(terminal)
    return agent


def until_connected(terminal: Terminal, times: int) -> None:
    """Wait until an agent has connected so often: another one may be there before anybody notices the loss."""
    log = terminal.home / "server.log"
    wait_for(lambda: log.read_text().count("is connected from") >= times, "a connection")
    until_ready(terminal)


def until_ready(terminal: Terminal) -> dict:
    nodes = wait_for(
        lambda: [n for n in terminal.ask("/v1/nodes")["nodes"] if n["health"] == "ready"],
        "the node",
    )
    return nodes[0]


def test_a_machine_joins_is_labelled_drained_and_removed(terminal, other, words):
    agent = join(terminal, other, *words, "--label", "region=eu")
    (node,) = terminal.json("node", "list")
    assert ("worker-1", False, os.cpu_count()) == (node["name"], node["drained"], node["cores"])
    terminal.run("node", "label", "worker-1", "disk=ssd")
    assert "disk=ssd,region=eu" in terminal.run("node", "list").stdout
    assert "as the node `worker-1`" in terminal.run("node", "logs", "worker-1").stdout
    terminal.run("node", "drain", "worker-1")
    assert "`worker-1` is drained" in terminal.run("status").stdout
    terminal.run("node", "drain", "worker-1", "--undo")
    again = other.run(*words[:-1], "worker-2", check=False)
    assert (1, True) == (again.returncode, "uses" in again.stderr)
    terminal.run("node", "remove", "worker-1", "-y")

    assert 1 == agent.end()
    assert "error: the node `worker-1` was removed" in agent.output
    assert [] == terminal.json("node", "list")
    refused = other.run("node", "join", check=False).stderr
    assert "this machine has not joined a homeport" in refused
    unknown = terminal.run("node", "logs", "worker-1", check=False).stderr
    assert "there is no node `worker-1`" in unknown


def test_an_agent_in_the_foreground_starts_again_and_down_ends_its_containers(
    terminal, other, words, tmp_path
):
    command = join(terminal, other, *words, "--foreground")
    script = tmp_path / "spread.py"
    script.write_text(APP)
    terminal.deploy(script)
    there = wait_for(
        lambda: [
            c for c in terminal.containers() if (c["node"], c["state"]) == ("worker-1", "ready")
        ],
        "a container there",
    )
    pid = there[0]["pid"]
    agents = other.processes("homeport.node --kept")
    assert 1 == len(agents)
    agents[0].send_signal(signal.SIGKILL)
    wait_for(
        lambda: (
            (found := other.processes("homeport.node --kept")) and found[0].pid != agents[0].pid
        ),
        "another agent",
    )
    until_connected(terminal, 2)
    command.process.send_signal(signal.SIGHUP)  # as an upgrade does
    until_connected(terminal, 3)
    assert processes.lives(pid)
    terminal.run("down")

    assert not processes.lives(pid)
    assert 0 == command.interrupt()
    assert [] == other.processes("homeport")


def test_a_machine_that_may_not_join_is_told_why(terminal, other, words):
    def said(*more: str) -> str:
        done = other.run(*more, check=False)
        assert 1 == done.returncode
        assert "Traceback" not in done.stderr
        return done.stderr

    address, token = words[2], words[4]
    wrong = token[:-4] + ("0000" if token[-4:] != "0000" else "1111")
    assert "is unknown, was used, or is too old" in said("node", "join", address, "--token", wrong)
    assert "this is not a token" in said("node", "join", address, "--token", "x")
    assert "Connection refused" in said("node", "join", "127.0.0.1:1", "--token", token)
    assert "cannot be the name of a node" in said(*words[:-1], "My_Host")
    assert "is not a label" in said(*words, "--label", "Region")
    assert "needs the address and a token" in said("node", "join", address)
    assert "gets its name and its labels when it joins" in said("node", "join", "--name", "b")
    service = subprocess.run(
        [sys.executable, "-m", "homeport", *words, "--service", "--dry-run"],
        env=os.environ | other.environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "systemctl enable --now homeport-node.service" in service
    assert token not in service


KEPT = """
import http.server
import os
import threading
import urllib.request

import modal

app = modal.App("kept")
volume = modal.Volume.from_name("notes", create_if_missing=True)
image = modal.Image.debian_slim().add_local_file("word.txt", "/root/word.txt")
secret = modal.Secret.from_dict({"WORD": "secret"})


@app.function(region="eu", volumes={"/notes": volume}, image=image, secrets=[secret])
@modal.wsgi_app()
def write():
    def answer(environ, start_response):
        with open("/notes/x", "a") as file:
            file.write("there")
        print("written there")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [open("/root/word.txt").read().encode(), b" ", os.environ["WORD"].encode()]

    return answer


@app.function(region="eu")
def forward():
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 8000), handler) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with modal.forward(8000) as tunnel:
            host, _, port = tunnel.url.partition("//")[2].partition(":")
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/kept.py", headers={"Host": host})
            with urllib.request.urlopen(asked) as answer:
                found = answer.read().decode()
        page.shutdown()
    assert "def forward" in found
    return os.environ["MODAL_TASK_ID"]


@app.local_entrypoint()
def main():
    print(modal.Function.from_name("kept", "forward").remote())


@app.function(region="ap")
def nowhere():
    pass
"""


def test_a_function_with_a_region_or_shared_volumes_runs_on_another_machine(
    terminal, other, visitor, tmp_path, request
):
    isolation.needed()
    shared, script = tmp_path / "shared", tmp_path / "kept.py"
    shared.mkdir()
    (tmp_path / "word.txt").write_text("local")
    for user in (terminal, other):
        user.environ |= {"HOMEPORT_SHARED_VOLUMES": str(shared), "HOMEPORT_ISOLATION": "on"}
    words = request.getfixturevalue("words")
    join(terminal, other, *words)
    wait_for(lambda: "shared" == until_ready(terminal)["volumes"], "the mark")
    script.write_text(KEPT.rpartition("@app.function(region")[0])
    said = terminal.run("deploy", script, cwd=tmp_path).stderr
    assert "`write`: `region` has no effect, because no machine has a label `region`" in said
    terminal.run("node", "label", "worker-1", "region=eu-west")
    script.write_text(KEPT)
    refused = terminal.run("deploy", script, cwd=tmp_path, check=False)
    assert 1 == refused.returncode
    assert "is for the region ap, and no machine that answers is in it" in refused.stderr
    script.write_text(KEPT.rpartition("@app.function(region")[0] + "\n# again\n")
    urls = terminal.deploy(script, cwd=tmp_path)
    assert "local secret" == visitor.get(urls["write"]).text
    (asked,) = wait_for(lambda: terminal.ask("/v1/requests?app=kept")["requests"], "the record")

    assert "worker-1" == asked["node"]
    assert "there" == terminal.run("volume", "get", "notes", "/x", "-").stdout
    shown = terminal.run("request", "show", asked["id"]).stdout
    assert f"{asked['container']} on worker-1" in shown
    assert f"{asked['container']} worker-1 written there" in terminal.log("kept", "written there")
    forwarded = terminal.run("run", script, cwd=tmp_path).stdout.split()
    assert [c["node"] for c in terminal.containers() if c["id"] in forwarded] == ["worker-1"]
    done = terminal.run("container", "exec", asked["container"], "--", "cat", "/notes/x")
    assert "there" == done.stdout
