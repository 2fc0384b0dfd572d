"""`python -I -S launch.py PARENT PROGRAM WORD…`: prepares this process, and becomes the program.

PARENT is the process with which the program ends, or 0 if it serves on alone. A process asks the kernel for that itself,
and between a fork and the new program no Python may run: the fork copies the locks of all threads of the server, and nobody
in the child opens those that another thread held (Python's documentation of `subprocess`, `preexec_fn`).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_PTRACER = 0x59616D61
ANY = ctypes.c_ulong(-1)
ENVIRON = {
    "PATH": os.defpath
}  # of the program: nothing of homeport's, and nothing that Python adds
IGNORED = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
)  # by Python; a program that it becomes would inherit that


def main(parent: int, words: list[str]) -> str:
    """Become the program; return why that is impossible."""
    libc = ctypes.CDLL(None)
    if parent:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return "homeport has ended meanwhile"
    # Allow the next server to copy the listening sockets, which Yama forbids by default.
    libc.prctl(PR_SET_PTRACER, ANY)
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, ENVIRON)  # noqa: S606 - the words are homeport's own
    except OSError as error:
        return f"{words[0]}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
