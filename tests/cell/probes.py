"""Attempts to get out of a cell. `python probes.py` reads the victim's line of JSON, and the token as `token`.

It prints `{name: [evidence or null, why not]}`: the evidence is what the probe has reached, so that a probe never guesses. The
same probes run outside a cell, where they must succeed: that proves the probe. `init` is the process that
stands for pid 1. Outside a cell it is the victim's process, because no test may touch the machine's own.
"""

import contextlib
import ctypes
import fcntl
import glob
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NUMBERS = {  # x86_64, aarch64
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "pivot_root": (155, 41),
    "adjtimex": (159, 171),
    "chroot": (161, 51),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "iopl": (172, None),
    "modify_ldt": (154, None),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "clone": (56, 220),
}
NEWNS, NEWUSER, NEWNET = 0x20000, 0x10000000, 0x40000000
EPERM, ENOSYS, EACCES = 1, 38, 13
PROBES = {}


class Closed(Exception):
    """The probe did not get in."""


def probe(function):
    PROBES[function.__name__] = function
    return function


def call(name, *args):
    """A system call by its number; `OSError`."""
    number = NUMBERS[name][platform.machine() == "aarch64"]
    if number is None:
        raise Closed(f"{name} does not exist here")
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result


def permitted(name, *args):
    """Return whether the kernel refused a call because of its useless arguments, and not because of missing rights."""
    try:
        return f"{name} returned {call(name, *args)}"
    except OSError as error:
        if error.errno in (EPERM, ENOSYS, EACCES):
            raise
        return f"{name} was allowed: {error.strerror}"


def contains(content, v):
    if v["token"].encode() in content:
        return "read the token"
    raise Closed("no token in it")


def read(path, v):
    with open(path, "rb") as file:
        return contains(file.read(1 << 20), v)


def others():
    """Return every process except this one and its parents inside the cell; pid 1 comes first."""
    mine = {os.getpid(), os.getppid()}
    found = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in found if pid not in mine]


def any_of(attempts):
    """Return the result of the first probe that succeeds; raise the last reason if none does."""
    last = Closed("there was nothing to try")
    for attempt in attempts:
        try:
            return attempt()
        except (OSError, Closed, ValueError) as error:
            last = error
    raise last


# Files.


@probe
def host_shadow(v):
    with open("/etc/shadow") as file:
        return next(f"{line[:5]}…" for line in file if line.startswith("root:"))


@probe
def other_source(v):
    return read(v["directory"] + "/source.py", v)


@probe
def store(v):
    return read(v["directory"] + "/store.db", v)


@probe
def vault_key(v):
    return read(v["directory"] + "/vault.key", v)


@probe
def through_proc_root(v):
    paths = [f"/proc/{pid}/root{v['directory']}/vault.key" for pid in [v["init"], *others()]]
    paths += [
        f"/proc/{pid}/cwd{'/..' * 9}{v['directory']}/vault.key" for pid in [v["init"], *others()]
    ]
    return any_of([lambda p=p: read(p, v) for p in paths])


@probe
def through_descriptors(v):
    """Reach files through a directory that another program has left open."""

    def attempt(fd):
        flags = os.O_RDONLY
        handle = os.open("../" * 20 + v["directory"][1:] + "/vault.key", flags, dir_fd=fd)
        with open(handle, "rb") as file:
            return contains(file.read(), v)

    here = os.open("/", os.O_PATH)
    return any_of([lambda f=f: attempt(f) for f in [*range(3, 64)] if f == here or _is_dir(f)])


@probe
def chroot_and_back(v):
    with tempfile.TemporaryDirectory() as place:
        root = os.open("/", os.O_RDONLY)
        call("chroot", place.encode())
        os.fchdir(root)
        for _ in range(30):
            os.chdir("..")
        call("chroot", b".")
        return read(v["directory"] + "/vault.key", v)


@probe
def other_directories(v):
    """Another app's directory; in a deployed container also the server's own home and sockets."""

    def attempt(path):
        return f"sees {path}: {os.lstat(path).st_size} bytes"

    return any_of([lambda p=p: attempt(p) for p in (v["directory"], *v.get("homes", ()))])


@probe
def forgotten_descriptors(v):
    """Something of the machine's that is still open here: a directory, a namespace, a process, a cgroup."""
    mine = {os.stat("/").st_dev, os.stat("/proc").st_dev, os.stat("/dev").st_dev}

    def attempt(fd):
        name = os.readlink(f"/proc/self/fd/{fd}")
        if name == "anon_inode:[pidfd]":
            return f"{name} of {_told_of_pidfd(fd)}"
        if ":[" in name and name.partition(":")[0] in ("mnt", "user", "pid", "net", "uts", "ipc"):
            return f"{fd} is {name}"
        if os.path.isdir(f"/proc/self/fd/{fd}") and os.fstat(fd).st_dev not in mine:
            return f"{fd} is the directory {name}"
        if name.endswith(("cgroup.procs", "mem", "core_pattern")):
            return f"{fd} is {name}"
        raise Closed("nothing but pipes, sockets and memory")

    return any_of([lambda f=f: attempt(f) for f in range(3, 256) if _is_open(f)])


@probe
def host_tmp(v):
    return read(v["temporary"], v)


@probe
def shared_memory_file(v):
    return read(v["shared"], v)


@probe
def shared_memory_segment(v):
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(v["shm_key"], 4096, 0)
    if segment < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    address = libc.shmat(segment, None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return contains(ctypes.string_at(address, 64), v)


@probe
def message_queue(v):
    queue = libc.msgget(v["shm_key"], 0)
    if queue < 0:
        raise OSError(ctypes.get_errno(), "msgget")
    return f"queue {queue}"


@probe
def message_queue_by_name(v):
    number = {"x86_64": 240, "aarch64": 180}[platform.machine()]  # mq_open
    queue = libc.syscall(ctypes.c_long(number), v["queue"].encode(), os.O_RDONLY, 0, None)
    if queue < 0:
        raise OSError(ctypes.get_errno(), "mq_open")
    return f"queue {queue}"


@probe
def system_directories(v):
    """Change a file in /usr that the next container runs."""

    def attempt(directory):
        path = f"{directory}/homeport-probe-{os.getpid()}"
        with open(path, "w"):
            os.unlink(path)
        return f"wrote in {directory}"

    return any_of([lambda d=d: attempt(d) for d in ("/usr/bin", "/usr/local/bin", "/usr/lib")])


@probe
def interpreter(v):
    """Change the Python that all containers share."""
    path = os.path.join(os.path.dirname(os.__file__), f"homeport-probe-{os.getpid()}")
    with open(path, "w"):
        os.unlink(path)
    return f"wrote beside {os.__file__}"


@probe
def other_cells(v):
    found = glob.glob("/.cell/*/*")
    if found:
        return f"sees {found[0]}"
    raise Closed("nothing there")


@probe
def block_device(v):
    with open("/proc/partitions") as file:
        rows = [line.split() for line in file.readlines()[2:]]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:

        def attempt(major, minor, name):
            path = f"{place}/{name}"
            os.mknod(path, 0o60600, os.makedev(int(major), int(minor)))
            with open(path, "rb") as file:
                return f"read {len(file.read(512))} bytes of {name}"

        return any_of([lambda r=r: attempt(r[0], r[1], r[3]) for r in rows[:4]])


@probe
def memory_device(v):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.mknod(f"{place}/kmsg", 0o20600, os.makedev(1, 11))
        os.close(os.open(f"{place}/kmsg", os.O_RDWR | os.O_NONBLOCK))
        return "opened /dev/kmsg by its number"


@probe
def open_by_handle(v):
    """Files by their inode, whatever the root is (the attack `shocker`)."""
    directory = os.open("/etc" if os.path.exists("/etc/hosts") else "/", os.O_RDONLY)
    handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0), 256)
    with contextlib.suppress(OSError):
        known = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 256)
        call(
            "name_to_handle_at",
            -100,
            v["directory"].encode(),
            known,
            ctypes.byref(ctypes.c_int()),
            0,
        )
        handle = known
    return f"descriptor {call('open_by_handle_at', directory, handle, os.O_RDONLY)}"


# Processes.


@probe
def other_environ(v):
    return any_of([lambda p=p: read(f"/proc/{p}/environ", v) for p in [v["pid"], *others()]])


@probe
def other_memory(v):
    def attempt():
        with open(f"/proc/{v['pid']}/mem", "rb", buffering=0) as file:
            file.seek(v["address"])
            return contains(file.read(len(v["token"])), v)

    return attempt()


@probe
def memory_of_pid_1(v):
    with open(f"/proc/{v['init']}/maps") as file:
        first = int(next(file).split("-")[0], 16)
    with open(f"/proc/{v['init']}/mem", "rb", buffering=0) as file:
        file.seek(first)
        return f"read {len(file.read(16))} bytes at {first:#x}"


@probe
def descriptors_of_pid_1(v):
    """What the container's first process holds, above all its pipe to the node."""

    def attempt(name):
        path = f"/proc/{v['init']}/fd/{name}"
        return f"opened {path}: {os.readlink(path)} as {os.open(path, os.O_RDONLY | os.O_NONBLOCK)}"

    return any_of([lambda n=n: attempt(n) for n in os.listdir(f"/proc/{v['init']}/fd")])


@probe
def process_behind_a_socket(v):
    """The server's process, by the socket that every container may connect to (SO_PEERPIDFD)."""

    def attempt(path, use):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
            handle = struct.unpack("i", one.getsockopt(socket.SOL_SOCKET, 77, 4))[0]
        return use(handle)

    uses = (
        lambda handle: f"signals it: {signal.pidfd_send_signal(handle, 0)}",
        lambda handle: f"its descriptor {call('pidfd_getfd', handle, 1, 0)}",
        lambda handle: f"in its namespaces: {call('setns', handle, NEWNS | NEWNET)}",
        lambda handle: f"is process {_told_of_pidfd(handle)}",
    )
    paths = (v["by_path"], *v.get("ways", ()))
    return any_of([lambda p=p, u=u: attempt(p, u) for p in paths for u in uses])


@probe
def outer_namespaces(v):
    """NS_GET_USERNS and NS_GET_PARENT: the namespaces that this one is below."""
    mine = os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/pid")

    def attempt(kind, request):
        handle = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
        outer = os.readlink(f"/proc/self/fd/{fcntl.ioctl(handle, request)}")
        if outer in mine:
            raise Closed("its own")
        return f"has {outer}, which {kind} is below"

    return any_of(
        [
            lambda k=k, r=r: attempt(k, r)
            for k in ("user", "pid", "mnt", "net", "uts", "ipc", "cgroup")
            for r in (0xB701, 0xB702)
        ]
    )


@probe
def other_ids(v):
    """An id that the cell was not given: its files, and its processes, would be somebody else's."""
    mapped = 0
    with open("/proc/self/uid_map") as file:
        for row in file:
            mapped = max(mapped, int(row.split()[0]) + int(row.split()[2]))
    if mapped > 1 << 31:
        raise Closed("every id is mapped: there is no cell")
    os.setuid(mapped + 1)
    return f"is user {os.getuid()}"


def _vm(name, v):
    local = ctypes.create_string_buffer(v["token"].encode(), 64)
    size = len(v["token"])
    ours = struct.pack("QQ", ctypes.addressof(local), size)
    theirs = struct.pack("QQ", v["address"], size)
    moved = call(name, v["pid"], ctypes.c_char_p(ours), 1, ctypes.c_char_p(theirs), 1, 0)
    return f"{moved} bytes"


@probe
def process_vm_readv(v):
    return _vm("process_vm_readv", v)


@probe
def process_vm_writev(v):
    return _vm("process_vm_writev", v)


def _seize(pid):
    call("ptrace", 0x4206, pid, 0, 0)  # PTRACE_SEIZE: it goes on
    return f"traces {pid}"


@probe
def ptrace_other(v):
    return _seize(v["pid"])


@probe
def ptrace_pid_1(v):
    return _seize(v["init"])


@probe
def signal_other(v):
    os.kill(v["pid"], 0)
    return f"may end {v['pid']}"


@probe
def steal_descriptor(v):
    def attempt(pid):
        handle = os.pidfd_open(pid)
        return f"descriptor {call('pidfd_getfd', handle, 1, 0)} of {pid}"

    return any_of([lambda p=p: attempt(p) for p in (v["pid"], v["init"])])


@probe
def limits_of_other(v):
    return f"reads {resource.prlimit(v['pid'], resource.RLIMIT_NOFILE)}"


@probe
def priority(v):
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "more than its share"


@probe
def real_time(v):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "before everybody else"


# The kernel.


@probe
def mount_tmpfs(v):
    def attempt(place):
        call("mount", b"x", place.encode(), b"tmpfs", 0, None)
        call("umount2", place.encode(), 0)
        return "mounted"

    def in_a_namespace(place):
        call("unshare", NEWNS)
        call("mount", b"none", b"/", None, 0x44000, None)  # private: nobody else gets it
        return attempt(place)

    with tempfile.TemporaryDirectory() as place:
        return any_of([lambda: in_a_namespace(place), lambda: attempt(place)])


@probe
def new_mount_api(v):
    return any_of(
        [
            lambda: f"fsopen: {call('fsopen', b'tmpfs', 0)}",
            lambda: f"open_tree: {call('open_tree', -100, b'/', 1)}",
            lambda: permitted("mount_setattr", -100, b"/", 0, None, 0),
        ]
    )


@probe
def umount(v):
    return permitted("umount2", b"/nowhere", 0)


@probe
def pivot_root(v):
    return permitted("pivot_root", b"/nowhere", b"/nowhere")


@probe
def unshare_users(v):
    call("unshare", NEWUSER)
    return "root of a user namespace"


@probe
def unshare_network(v):
    call("unshare", NEWNET)
    return "a network namespace"


@probe
def clone_users(v):
    pid = call("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "root of a user namespace"


@probe
def clone3_users(v):
    args = ctypes.create_string_buffer(
        struct.pack("<8Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64
    )
    pid = call("clone3", args, 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "root of a user namespace"


@probe
def enter_namespaces(v):
    def attempt(pid, kind):
        target = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        call("setns", target, 0)
        return f"in {kind} of {pid}"

    return any_of(
        [
            lambda p=p, k=k: attempt(p, k)
            for p in (v["init"], v["pid"])
            for k in ("mnt", "net", "uts")
        ]
    )


@probe
def bpf(v):
    attributes = ctypes.create_string_buffer(struct.pack("<IIIII", 2, 4, 4, 1, 0), 128)
    return f"map {call('bpf', 0, attributes, 128)}"


@probe
def keys(v):
    return f"key {call('add_key', b'user', b'homeport-probe', b'x', 1, -3)}"


@probe
def keyctl(v):
    return f"session {call('keyctl', 1, None)}"


@probe
def perf(v):
    attributes = ctypes.create_string_buffer(
        struct.pack("<IIQ", 1, 128, 0), 128
    )  # software, CPU clock
    return (
        f"counts {call('perf_event_open', attributes, -1, 0, -1, 0)}: every process on a processor"
    )


@probe
def userfaultfd(v):
    return f"descriptor {call('userfaultfd', 0)}"


@probe
def io_uring(v):
    return f"ring {call('io_uring_setup', 4, ctypes.create_string_buffer(120))}"


@probe
def fanotify(v):
    return f"watches by {call('fanotify_init', 0x4, 0)}"


@probe
def calls_of_32_bits(v):
    """getpid (20) by `int 0x80`, which uses another table of system calls."""
    if platform.machine() != "x86_64":
        raise Closed("not x86")
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(
        b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3"
    )  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result == os.getpid():
        return "the 32-bit getpid answered"
    raise Closed(os.strerror(-result))


@probe
def modify_ldt(v):
    return f"read {call('modify_ldt', 0, ctypes.create_string_buffer(64), 64)} bytes"


@probe
def io_ports(v):
    call("iopl", 3)
    return "may speak to the hardware"


@probe
def kernel_log(v):
    buffer = ctypes.create_string_buffer(4096)
    return f"read {call('syslog', 3, buffer, 4096)} bytes"


@probe
def kernel_log_device(v):
    def attempt(path):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if os.fstat(handle).st_rdev == os.stat("/dev/null").st_rdev:
            raise Closed("it is /dev/null")
        return f"opened {path}"

    return any_of([lambda p=p: attempt(p) for p in ("/dev/kmsg", "/proc/kmsg")])


@probe
def kernel_modules(v):
    return permitted("delete_module", b"homeport_no_such", 0x800)


@probe
def load_module(v):
    return permitted("init_module", None, 0, b"")


@probe
def another_kernel(v):
    return permitted("kexec_load", 0, 99, None, 0)


@probe
def reboot(v):
    return permitted("reboot", 1, 2, 3, None)


@probe
def swap(v):
    return permitted("swapon", b"/nowhere", 0)


@probe
def accounting(v):
    return permitted("acct", b"/nowhere/at/all")


@probe
def clock(v):
    state = ctypes.create_string_buffer(256)
    call("adjtimex", state)
    status = struct.unpack_from("i", state, 40)[0]
    state = ctypes.create_string_buffer(256)
    struct.pack_into("I", state, 0, 0x10)  # ADJ_STATUS, to what it is
    struct.pack_into("i", state, 40, status)
    call("adjtimex", state)
    return "may set the clock"


@probe
def host_name(v):
    socket.sethostname(socket.gethostname())
    return "may set the host's name"


@probe
def core_pattern(v):
    """A program that the kernel starts as root, outside every namespace."""
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "may be written"


@probe
def kernel_settings(v):
    for directory, _, names in os.walk("/proc/sys"):
        for name in names:
            with contextlib.suppress(OSError):
                os.close(os.open(f"{directory}/{name}", os.O_WRONLY))
                return f"may write {directory}/{name}"
    raise Closed("none can be written")


@probe
def sysrq(v):
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "may be written"


@probe
def kernel_memory(v):
    return any_of(
        [
            lambda p=p: f"opened {os.open(p, os.O_RDONLY)}"
            for p in ("/proc/kcore", "/dev/mem", "/dev/kmem")
        ]
    )


@probe
def sysfs(v):
    for directory in ("/sys/kernel", "/sys/fs/cgroup", "/sys/class", "/sys/devices/system/cpu"):
        for path in glob.glob(f"{directory}/*") + glob.glob(f"{directory}/*/*"):
            if os.path.isfile(path):
                with contextlib.suppress(OSError):
                    os.close(os.open(path, os.O_WRONLY))
                    return f"may write {path}"
    raise Closed("nothing can be written")


@probe
def cgroups(v):
    for path in glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)[:50]:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            return f"may write {path}"
    raise Closed("no cgroup can be written")


@probe
def type_into_terminal(v):
    master, other = os.openpty()
    os.setsid()
    fcntl.ioctl(other, 0x540E, 0)  # TIOCSCTTY
    fcntl.ioctl(other, 0x5412, b"x")  # TIOCSTI
    return f"typed by {master}"


# Sockets.


def _connected(family, address, v):
    with socket.socket(family) as one:
        one.settimeout(5)
        one.connect(address)
        return contains(one.recv(1024), v)


@probe
def socket_by_path(v):
    return _connected(socket.AF_UNIX, v["by_path"], v)


@probe
def socket_by_name(v):
    return _connected(socket.AF_UNIX, v["by_name"], v)


@probe
def host_loopback(v):
    return _connected(socket.AF_INET, tuple(v["loopback"]), v)


@probe
def raw_socket(v):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "forges packets"


@probe
def packet_socket(v):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        return "reads everybody's packets"


@probe
def rare_sockets(v):
    """Parts of the kernel that a web function never needs: AF_ALG, KEY, X25, RDS, CAN, TIPC, BLUETOOTH, KCM, SMC, XDP."""

    def attempt(family, kind):
        with socket.socket(family, kind):
            return f"family {family}"

    return any_of(
        [
            lambda f=f, k=k: attempt(f, k)
            for f in (38, 15, 9, 21, 29, 30, 31, 41, 43, 44)
            for k in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)
        ]
    )


@probe
def vsock_socket(v):
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        return "reaches the machine's own host"


@probe
def netlink_sockets(v):
    """Every connection of the machine (sock_diag), audit, and the devices' events."""

    def attempt(protocol):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol):
            return f"netlink {protocol}"

    return any_of([lambda p=p: attempt(p) for p in (4, 9, 12, 15, 16)])


@probe
def network_settings(v):
    """Take an address away, or add one (here: one of 127.0.0.0/8 to `lo`)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
        body = struct.pack("=BBBBi", socket.AF_INET, 32, 0, 254, 1)
        for kind in (2, 1):  # IFA_LOCAL, IFA_ADDRESS
            body += struct.pack("=HH4s", 8, kind, bytes([127, 9, 9, os.getpid() % 250 + 1]))
        for message, flags in ((20, 0x605), (21, 0x5)):  # RTM_NEWADDR, RTM_DELADDR
            route.send(struct.pack("=IHHII", 16 + len(body), message, flags, 1, 0) + body)
            error = struct.unpack_from("=i", route.recv(4096), 16)[0]
            if error:
                raise OSError(-error, os.strerror(-error))
    return "may configure interfaces"


# Resources. The cell sets the limits, so a probe does not need to know them.


@probe
def fork_bomb(v):
    children = []
    try:
        for _ in range(v["processes"]):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return f"{len(children)} processes"


@probe
def descriptors(v):
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (v["files"] + 1000, v["files"] + 1000))
    opened = []
    try:
        opened.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(v["files"]))
    finally:
        for one in opened:
            os.close(one)
    return f"{len(opened)} descriptors"


@probe
def shared_memory_size(v):
    """Write more to /dev/shm than the cell may."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        os.posix_fallocate(file.fileno(), 0, (v["shm_mib"] + 8) << 20)
        return f"{v['shm_mib'] + 8} MiB"


@probe
def memory(v):
    block = mmap.mmap(-1, 64 << 20)
    block[::4096] = b"x" * (len(block) // 4096)
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        raise Closed("limited")
    return "no limit of its own"


@probe
def disk(v):
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        os.posix_fallocate(file.fileno(), 0, 256 << 20)
        return "256 MiB, and no limit of its own"


def _is_open(fd):
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


def _told_of_pidfd(handle):
    """The pid behind a pidfd, as far as this pid namespace can tell; a process of another one has none."""
    with open(f"/proc/self/fdinfo/{handle}") as file:
        pid = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
    if pid <= 0:
        raise Closed("not in sight")
    return pid


def _is_dir(fd):
    with contextlib.suppress(OSError):
        return os.path.isdir(f"/proc/self/fd/{fd}")
    return False


def attempt(function, v):
    """Run a probe in a child process, so that its changes end with it; a probe that is killed has failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            answer = [function(v), ""]
        except BaseException as error:
            answer = [None, f"{type(error).__name__}: {error}"]
        os.write(writer, json.dumps(answer).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(told) if told else [None, f"ended by {status}"]


def deployed(v):
    """All but the two whose limits are thousands, in a container of homeport's."""
    v = {**v, "init": 1, "shm_mib": 64, "ways": ["/run/homeport/calls.sock"]}
    return {
        name: attempt(function, v)
        for name, function in PROBES.items()
        if name not in {"fork_bomb", "descriptors"}
    }


def main():
    v = json.loads(sys.stdin.readline())
    wanted = v.get("only") or PROBES
    print(json.dumps({name: attempt(PROBES[name], v) for name in wanted}))


if __name__ == "__main__":
    main()
