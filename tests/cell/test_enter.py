"""A program that is run in a cell from outside: it is in the cell, and may do no more than what runs there."""

import contextlib
import dataclasses
import json
import os
import select
import subprocess
from pathlib import Path

import psutil
import pytest

from homeport.cell import enter, kernel, seal
from homeport.cell.description import Network
from homeport.contract import codec
from tests.cell.conftest import HERE
from tests.cell.test_escapes import (
    BY_DESIGN,
    LIMITS,
    PROBES,
    WITH_THE_HOSTS_NETWORK,
    probe,
    victim,  # noqa: F401 - a fixture
)
from tests.waiting import wait_for

WAITS = "import sys; open('/tmp/here', 'w').write('inside'); print('waits', flush=True); sys.stdin.read()"


@dataclasses.dataclass
class Running:
    """A cell in which a program waits."""

    account: object
    cell: object
    process: subprocess.Popen
    pid: int  # of the program, as the host sees it

    def enter(self, *argv, terminal="", **options):
        """Run a program beside it; return the finished process."""
        description = json.dumps(codec.encode(self.cell))
        words = [str(HERE / "entering.py"), str(self.pid), description, terminal, *argv]
        return self.account.run(words, **options)


@contextlib.contextmanager
def running(account, pass_fds=(), **changes):
    cell = account.cell(limits=LIMITS, **changes)
    order = {
        "cell": codec.encode(cell),
        "argv": [account.python, "-c", WAITS],
        "private": True,
        "mounts": {},
    }
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parents[1] / "src")}
    with subprocess.Popen(
        [*account.words, account.python, "-m", "homeport.cell", json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environ, "HOME": "/nonexistent"},
        pass_fds=pass_fds,
    ) as process:
        assert "waits\n" == process.stdout.readline()
        tree = psutil.Process(process.pid).children(recursive=True)
        last = next(
            process for process in tree if WAITS in process.cmdline() and not process.children()
        )
        try:
            yield Running(account, cell, process, last.pid)
        finally:
            process.stdin.close()


@pytest.mark.parametrize("root", ["overlay", "layers"])
def test_no_probe_gets_out_of_a_program_that_has_entered(account, victim, root, request):  # noqa: F811
    changes = {"layers": request.getfixturevalue("layers")} if root == "layers" else {}
    with running(account, **changes) as cell:
        facts = json.dumps({**victim, "init": 1})
        finished = cell.enter(account.python, PROBES, input=facts)
    open_ = probe(finished, f"{account.name}, {root}, entered")
    expected = {*BY_DESIGN, *WITH_THE_HOSTS_NETWORK}
    if kernel.landlock_abi() < seal.SCOPES_ABI:
        expected.add("socket_by_name")

    assert expected == set(open_)


def test_a_program_that_enters_has_the_files_and_the_rights_of_the_cells_own_programs(account):
    status = (
        "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Groups)' /proc/self/status; cat /proc/self/limits"
    )
    with running(account) as cell:
        entered = cell.enter("sh", "-c", f"cat /tmp/here; pwd; {status}")
        ended = cell.enter("sh", "-c", "exit 7")
        missing = cell.enter("no-such-program")
        descriptors = cell.enter("sh", "-c", "ls -l /proc/self/fd | wc -l; echo $$")
    finished = account.inside(account.cell(limits=LIMITS), ["sh", "-c", status])

    assert f"inside/root\n{finished.stdout}" == entered.stdout
    assert 7 == ended.returncode
    assert 127 == missing.returncode
    assert "there is no program `no-such-program`" in missing.stderr
    assert "5" == descriptors.stdout.split()[0], (
        "its three streams, and the directory that ls reads"
    )


def test_a_program_that_enters_has_the_cells_network(account):
    with running(account, network=Network.NONE) as cell:
        finished = cell.enter("sh", "-c", "tail -n +3 /proc/net/dev | cut -d : -f 1")

    assert ["lo"] == finished.stdout.split()


def test_a_program_that_enters_has_a_terminal_of_the_cells_own(account):
    with running(account) as cell:
        shown = cell.enter("sh", "-c", "tty; stty size; exit 3", terminal="33x101")

    assert ("/dev/pts/0\n33 101\n", "", 3) == (shown.stdout, shown.stderr, shown.returncode)


def test_the_cell_cannot_look_into_what_enters(account):
    """The process that has entered and is not sealed yet refuses to be looked at, as its /proc/…/exe shows."""
    spy = (
        "import os\n"
        "own = {name for name in os.listdir('/proc') if name.isdigit()}\n"
        "print('spies', flush=True)\n"
        "while True:\n"
        "    for name in {n for n in os.listdir('/proc') if n.isdigit()} - own:\n"
        "        try:\n"
        "            print(os.readlink(f'/proc/{name}/exe'), flush=True)\n"
        "        except OSError:\n"
        "            pass\n"
    )
    with running(account) as cell:
        description = json.dumps(codec.encode(cell.cell))
        words = [
            str(HERE / "entering.py"),
            str(cell.pid),
            description,
            "",
            account.python,
            "-c",
            spy,
        ]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parents[1] / "src")}
        with subprocess.Popen(
            [*account.words, account.python, *words], stdout=subprocess.PIPE, text=True, env=environ
        ) as spying:
            assert "spies\n" == spying.stdout.readline()
            for _ in range(5):
                assert 0 == cell.enter("sh", "-c", "cat /proc/self/status >/dev/null").returncode
            cell.process.stdin.close()
            cell.process.wait(60)
            paths = set(spying.stdout.read().split())

    assert [] == [path for path in paths if "python" in path or "memfd" in path]


def test_a_link_to_the_interpreter_that_enters_leads_to_a_copy(account):
    """As CVE-2019-5736: a program of the cell is a link to /proc/self/exe, which was this machine's interpreter."""
    if account.user == 0:
        pytest.skip("the cell's root is another user there, and may not write the interpreter")
    look = (
        "import fcntl, os; found = os.stat('/proc/self/exe'); file = open('/proc/self/exe', 'rb')\n"
        "print(found.st_dev, found.st_ino, fcntl.fcntl(file, 1034))"  # F_GET_SEALS
    )
    with running(account) as cell:
        link = cell.enter("sh", "-c", "ln -s /proc/self/exe /tmp/trap && echo done")
        trap = cell.enter("/tmp/trap", "-c", look)
    own = os.stat(os.path.realpath(account.python))

    assert "done\n" == link.stdout
    assert "" != trap.stdout, trap.stderr
    *file, seals = trap.stdout.split()
    assert file != [str(own.st_dev), str(own.st_ino)]
    assert str(enter.ALL_SEALS) == seals, "nobody can write into the copy"


def test_a_program_that_entered_ends_with_the_cell(account):
    with running(account) as cell:
        description = json.dumps(codec.encode(cell.cell))
        words = [
            str(HERE / "entering.py"),
            str(cell.pid),
            description,
            "",
            "sh",
            "-c",
            "echo on; sleep 600",
        ]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parents[1] / "src")}
        with subprocess.Popen(
            [*account.words, account.python, *words], stdout=subprocess.PIPE, text=True, env=environ
        ) as entered:
            assert "on\n" == entered.stdout.readline()
            cell.process.stdin.close()
            cell.process.wait(60)

            assert 137 == entered.wait(60)


def test_a_cell_ends_with_the_process_that_made_it(account):
    with running(account) as cell:
        handle = os.pidfd_open(cell.pid)
        cell.process.kill()
        has_ended = select.select([handle], [], [], 60)[0]
        os.close(handle)

        assert has_ended


def test_the_first_processes_of_a_cell_keep_no_descriptor(account):
    """The program has what it was given; what a process beside it kept open would never end."""
    reader, writer = os.pipe()
    link = os.readlink(f"/proc/self/fd/{writer}")
    with running(account, pass_fds=[writer]) as cell:
        family = psutil.Process(cell.process.pid).children(recursive=True)
        keeping = [
            process.pid
            for process in (psutil.Process(cell.process.pid), *family)
            if link in map(os.readlink, Path(f"/proc/{process.pid}/fd").iterdir())
        ]
    for descriptor in (reader, writer):
        os.close(descriptor)

    assert [cell.pid] == keeping


def sealed(pid: int) -> bool:
    """Return whether a process may send signals, and has no other right."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = {line[0]: line[-1] for line in lines if line}
    rights = [int(status[f"Cap{kind}:"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    return rights == [0, 32, 32, 32, 0] and (status["NoNewPrivs:"], status["Seccomp:"]) == (
        "1",
        "2",
    )


def test_a_program_ends_with_the_process_that_waits_for_it_and_has_no_rights(account):
    with running(account) as cell:
        script = str(HERE / "entering.py")
        words = [script, str(cell.pid), json.dumps(codec.encode(cell.cell)), ""]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parents[1] / "src")}
        with subprocess.Popen(
            [*account.words, account.python, *words, "sh", "-c", "echo on; sleep 600"],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        ) as entered:
            assert "on\n" == entered.stdout.readline()
            (waiting,) = psutil.Process(entered.pid).children()
            (program,) = waiting.children()
            wait_for(lambda: sealed(waiting.pid), "the process to give up its rights")
            handle = os.pidfd_open(program.pid)
            waiting.kill()
            has_ended = select.select([handle], [], [], 60)[0]
            os.close(handle)
            entered.kill()

            assert has_ended
