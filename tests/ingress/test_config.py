"""The whole configuration equals a reviewed file, and HAProxy accepts it."""

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest

from homeport.contract.traffic import Peer
from homeport.ingress import config, entered, process
from homeport.ingress.config import Config, Server
from homeport.ingress.elsewhere import Elsewhere
from homeport.ingress.supervisor import FILES
from homeport.link import authority as links
from homeport.link.identity import Identity
from tests.certificates import Authority

GOLDEN = Path(__file__).parent / "golden"
PEERS = {
    "a": Peer(host="10.0.0.2", port=7601, name=Identity(name="a", id="0" * 32).host, id="0" * 32),
    "b": Peer(
        host="2001:db8::2", port=7700, name=Identity(name="b", id="1" * 32).host, id="1" * 32
    ),
}
CASES = {
    "loopback": {"requests_per_s": 0},
    "limited": {"requests_per_s": 200, "per_source": 1000, "domain": "apps.example.com"},
    "proxied": {"requests_per_s": 0, "trusted_proxies": ("10.0.0.0/8", "::1/128")},
    "secure": {"requests_per_s": 0, "secure": 6, "https_port": 4664, "lasting": True},
    "secure_proxied": {
        "requests_per_s": 0,
        "secure": 6,
        "https_port": 443,
        "trusted_proxies": ("10.0.0.0/8",),
    },
    "traced": {"requests_per_s": 0, "traced": 0.25},
    "joined": {
        "requests_per_s": 0,
        "peers": PEERS,
        "servers": {
            "b1": (
                Server(name="ta-1", address="abns@homeport-ta-1", slots=1),
                Server(
                    name="ta-2",
                    address="ipv4@10.0.0.2:7601",
                    slots=3,
                    held=1,
                    there=Elsewhere(node="a", label="ta-2"),
                    peer=PEERS["a"],
                ),
            )
        },
    },
    "entered": {
        "requests_per_s": 200,
        "per_source": 1000,
        "secure": 6,
        "https_port": 443,
        "trusted_proxies": ("10.0.0.0/8",),
        "peers": PEERS,
        "entered": True,
    },
    "busy": {
        "requests_per_s": 0,
        "servers": {
            "b1": (
                Server(name="ta-1", address="unix@/run/c/ta-1.sock", slots=1),
                Server(name="ta-2", address="127.0.0.1:8000", slots=50, draining=True),
            )
        },
    },
}


def render(
    name: str,
    directory: str = "/run/ingress",
    descriptor: int = 3,
    calls: int = 4,
    urls: int = 5,
    secure: int = 6,
    nodes: int = 7,
) -> str:
    """Return the configuration of one case."""
    told = {
        "control": f"{directory}/haproxy-1.sock",
        "again": f"{directory}/again.sock",
        "api": f"{directory}/control.sock",
        "inside": f"{directory}/inside.sock",
        "remote": f"{directory}/remote.sock",
        "nodes_calls": f"{directory}/nodes.sock",
        "urls_socket": f"{directory}/urls.sock",
        "peers": {},
        "listeners": (descriptor,),
        "calls": calls,
        "urls": urls,
        "per_source": 0,
        "own_hosts": ("localhost", "127.0.0.1", "[::1]"),
        "domain": "localhost",
        "max_connections": 1000,
        "backends": {"b": 2, "u": 1},
        **CASES[name],
    }
    if told.pop("entered", False):
        told["visitors"] = entered.sockets(directory, tls=True)
    if told["peers"]:
        told["nodes"] = nodes
    if told.get("secure") is not None:
        told["secure"] = secure
    return config.render(Config(**told))


@pytest.mark.parametrize("name", CASES)
def test_the_configuration_is_the_golden_one(name):
    # After an intended change: `python -m tests.ingress.test_config`, and read the difference.
    assert (GOLDEN / f"{name}.cfg").read_text() == render(name)


@pytest.mark.parametrize("name", CASES)
def test_haproxy_takes_it_without_a_warning(name, tmp_path):
    for file in FILES:
        (tmp_path / file).write_text(Path(config.__file__).with_name(file).read_text())
    (tmp_path / "activator").write_text(f"{tmp_path}/activator.sock\n")
    for each in config.MAPS:
        (tmp_path / f"{each}.map").write_text("")
    (tmp_path / "a.pem").write_bytes(Authority().pem("a.localhost"))
    made = links.Authority(tmp_path / "cluster")
    made.open()
    (tmp_path / "crt-list").write_text("a.pem a.localhost\n")
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(socket.create_server(("127.0.0.1", 0)))]
        for each in ("calls", "urls", "secure", "nodes"):
            listeners.append(opened.enter_context(socket.socket(socket.AF_UNIX)))
            listeners[-1].bind(str(tmp_path / f"{each}.fd"))
            listeners[-1].listen()
        numbers = [listener.fileno() for listener in listeners]
        text = render(name, str(tmp_path), *numbers)
        (tmp_path / "haproxy.cfg").write_text(text)
        done = subprocess.run(
            [process.find("").path, "-c", "-f", tmp_path / "haproxy.cfg"],
            pass_fds=numbers,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    assert (0, "") == (done.returncode, done.stderr)
    assert "WARNING" not in done.stdout


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case}.cfg").write_text(render(case))
