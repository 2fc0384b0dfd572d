"""Every known way out of a cell is tried in every kind of cell, where it must fail, and outside, where it must work."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from homeport.cell import kernel, seal
from homeport.cell.description import Limits, Network
from tests.cell.conftest import HERE, SOURCE

PROBES = str(HERE / "probes.py")
LIMITS = Limits(processes=100, files=256)

#: What stays open in a cell, and why (docs/guides would say the same).
BY_DESIGN = {
    "memory": "kept by the container's cgroup, or by the node's watchdog",
    "disk": "kept by the node's watchdog, which measures the cell's storage",
}
WITH_THE_HOSTS_NETWORK = {"host_loopback": "a cell with the host's network reaches its services"}
#: Probes that cannot be proved on each machine, and the reason.
UNPROVABLE = {
    "other_cells": "only a base cell has it",
    "block_device": "a devices cgroup may refuse it",
    "memory_device": "a devices cgroup may refuse it",
    "real_time": "a cgroup without a share of real time refuses it",
    "io_ports": "not in each kernel",
    "modify_ldt": "not in each kernel",
    "calls_of_32_bits": "not in each kernel",
    "kernel_modules": "not in each kernel",
    "load_module": "not in each kernel",
    "another_kernel": "not in each kernel",
    "accounting": "not in each kernel",
    "sysrq": "not in each kernel",
    "kernel_memory": "not in each kernel",
    "vsock_socket": "not in each kernel",
    "bpf": "not in each kernel",
    "perf": "not in each kernel",
    "userfaultfd": "not in each kernel",
    "io_uring": "not in each kernel",
    "fanotify": "not in each kernel",
    "type_into_terminal": "not in each kernel",
    "kernel_log_device": "a container that the tests run in may lack it",
    "cgroups": "a container that the tests run in may lack it",
    "sysfs": "a container that the tests run in may lack it",
    "host_loopback": "",
    "forgotten_descriptors": "only a careless program leaves one open: see below",
    "outer_namespaces": "outside there is no namespace above",
    "other_ids": "outside there is no map of ids",
    "rare_sockets": "not in each kernel",
    "message_queue_by_name": "not in each kernel",
    "process_behind_a_socket": "not in each kernel",
}
#: An ordinary user may do these outside a cell, so they must succeed there.
EVERYBODY = {
    "other_source",
    "store",
    "vault_key",
    "through_proc_root",
    "through_descriptors",
    "host_tmp",
    "shared_memory_file",
    "shared_memory_segment",
    "message_queue",
    "other_directories",
    "descriptors_of_pid_1",
    "other_environ",
    "other_memory",
    "memory_of_pid_1",
    "signal_other",
    "steal_descriptor",
    "limits_of_other",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace_other",
    "unshare_users",
    "clone_users",
    "clone3_users",
    "keys",
    "keyctl",
    "netlink_sockets",
    "socket_by_path",
    "socket_by_name",
    "host_loopback",
    "fork_bomb",
    "descriptors",
    "shared_memory_size",
    "memory",
    "disk",
}
ALL_CAPABILITIES = 0x1FEFFFFFF  # but SYS_RESOURCE and those newer than Linux 5.8


@pytest.fixture
def victim(account):
    """A neighbour of the same user, with secrets."""
    token = f"canary-{os.urandom(8).hex()}"
    process = subprocess.Popen(
        [*account.words, account.python, str(HERE / "victim.py"), str(account.mkdir("victim"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"SECRET": token, "PYTHONPATH": str(SOURCE)},
    )
    told = json.loads(process.stdout.readline())
    yield {
        **told,
        "token": token,
        "init": told["pid"],
        "shm_mib": 64,
        "processes": 200,
        "files": 400,
    }
    process.communicate()


def probe(finished, table: str) -> dict[str, list]:
    assert "" == finished.stderr
    assert 0 == finished.returncode
    tried = json.loads(finished.stdout)
    print(f"\n{table}")
    for name, (evidence, reason) in tried.items():
        print(f"  {name:24} {'OPEN   ' + evidence if evidence else 'closed ' + reason}")
    return {name: evidence for name, (evidence, _) in tried.items() if evidence}


def test_every_probe_gets_in_where_nothing_stands_against_it(account, victim):
    inside = probe(account.run([PROBES], input=json.dumps(victim)), f"{account.name}, no cell")
    tried = EVERYBODY
    if account.user == 0 and _capabilities() & ALL_CAPABILITIES == ALL_CAPABILITIES:
        tried = set(_names()) - set(UNPROVABLE)

    assert set() == tried - set(inside)


@pytest.mark.parametrize("network", [Network.HOST, Network.NONE], ids=str)
@pytest.mark.parametrize("root", ["overlay", "memory", "layers"])
def test_no_probe_gets_out_of_a_cell(account, victim, network, root, request):
    changes = {"network": network, "limits": LIMITS, "overlay": root != "memory"}
    if root == "layers":
        changes["layers"] = request.getfixturevalue("layers")
    cell = account.cell(**changes)
    finished = account.inside(
        cell, [account.python, PROBES], input=json.dumps({**victim, "init": 1})
    )
    open_ = probe(finished, f"{account.name}, {root}, network {network.value}")
    expected = set(BY_DESIGN)
    if network is Network.HOST:
        expected |= set(WITH_THE_HOSTS_NETWORK)
        if kernel.landlock_abi() < seal.SCOPES_ABI:
            expected.add("socket_by_name")

    assert expected == set(open_)


def test_a_base_cell_hides_the_host_from_what_is_preloaded_there(account, victim):
    """It may still make namespaces and see its own containers' storage; so it runs no request."""
    cell = account.cell()
    storage = Path(cell.storage)
    (storage / "another").mkdir()
    told = {
        **victim,
        "init": 1,
        "only": [n for n in _names() if n in EVERYBODY or n == "other_cells"],
    }
    finished = account.inside(cell, [account.python, PROBES], input=json.dumps(told), private=False)
    open_ = probe(finished, f"{account.name}, base cell")

    assert "other_cells" in open_
    assert set() == set(open_) & {
        *("other_source", "store", "vault_key", "through_proc_root", "through_descriptors"),
        *(
            "host_tmp",
            "shared_memory_file",
            "shared_memory_segment",
            "message_queue",
            "other_directories",
            "other_environ",
            "other_memory",
        ),
        *(
            "signal_other",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace_other",
            "socket_by_path",
        ),
    }


@pytest.mark.parametrize("careless", ["directory", "process", "namespace"])
def test_a_descriptor_that_was_left_open_is_found(account, victim, careless):
    opened = {
        "directory": lambda: os.open("/dev/shm", os.O_RDONLY),
        "process": lambda: os.pidfd_open(os.getpid()),
        "namespace": lambda: os.open("/proc/self/ns/net", os.O_RDONLY),
    }[careless]()
    told = {**victim, "only": ["forgotten_descriptors"]}
    try:
        finished = account.run([PROBES], input=json.dumps(told), pass_fds=[opened])
    finally:
        os.close(opened)

    assert ["forgotten_descriptors"] == list(probe(finished, f"{account.name}, {careless}"))


def _names() -> list[str]:
    from tests.cell import probes

    return list(probes.PROBES)


def _capabilities() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))
