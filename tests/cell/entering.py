"""Runs a program in a cell that runs already: `entering.py PID CELL TERMINAL WORD…`, as the node does it.

The exit code is the program's, or 125 if it cannot be started. With a TERMINAL of "24x80", what the program shows there
is printed, and this process's standard input is typed into it.
"""

import json
import os
import socket
import subprocess
import sys
import threading

FAILED = 125


def main():
    pid, cell, terminal, *argv = sys.argv[1:]
    ours, theirs = socket.socketpair()
    runner = os.pidfd_open(int(pid))
    given = os.memfd_create("order")
    order = {
        "pid": int(pid),
        "argv": argv,
        "cwd": "/root",
        "environ": {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"},
        "terminal": [int(each) for each in terminal.split("x")] if terminal else None,
        "cell": json.loads(cell),
        "cgroup": "",
        "cores": [],
    }
    os.write(given, json.dumps(order).encode())
    passed = (theirs.fileno(), runner, given)
    process = subprocess.Popen(
        [sys.executable, "-m", "homeport.cell.enter", *map(str, passed)],
        pass_fds=passed,
        stdin=subprocess.DEVNULL if terminal else None,
    )
    theirs.close()
    message, descriptors, _, _ = socket.recv_fds(ours, 65536, 1)
    told = json.loads(message.split(b"\n")[0]) if message else {"error": "it has ended"}
    if "error" in told:
        print(told["error"], file=sys.stderr)
        sys.exit(FAILED)
    if descriptors:
        threading.Thread(target=copy, args=(0, descriptors[0]), daemon=True).start()
        copy(descriptors[0], 1)
    rest = message.partition(b"\n")[2]
    while b"\n" not in rest:
        rest += ours.recv(65536)
    process.wait()
    sys.exit(json.loads(rest)["code"])


def copy(source, target):
    try:
        while data := os.read(source, 65536):
            os.write(target, data)
    except OSError:
        return


if __name__ == "__main__":
    main()
