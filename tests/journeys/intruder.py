"""What code of one workspace tries against another workspace of the server; deployed in both by test_tenants.py.

`attempts(v)` returns `{name: evidence or null}`. A probe reads the other's token, `v["token"]`, or changes something of
the other's: it never guesses. In the other workspace's own container the same probes succeed, which proves them.
"""

import contextlib
import ctypes
import glob
import http.client
import itertools
import json
import os
import secrets
import signal
import socket
import struct
import threading
import urllib.parse

import modal

NAME = "treasure"
SOCKET = "/run/homeport/calls.sock"
PLANTED = ("/tmp/canary", "/dev/shm/canary", "/data/canary", "/root/canary")
PROBES = {}
LAST = {}  # those that leave nothing for others
libc = ctypes.CDLL(None, use_errno=True)
kept = []  # what stays open as long as the container lives


class Closed(Exception):
    """The probe did not get in."""


def probe(function):
    PROBES[function.__name__] = function
    return function


def last(function):
    LAST[function.__name__] = function
    return function


def has(found, v):
    """Return the evidence that a value has the token."""
    text = found if isinstance(found, bytes) else str(found).encode()
    if v["token"].encode() in text:
        return "read the token"
    raise Closed(f"no token in {text[:80]!r}")


def any_of(attempts):
    """Return the evidence of the first attempt that succeeds; raise the last reason if none does."""
    why = Closed("there was nothing to try")
    for attempt in attempts:
        try:
            return attempt()
        except Exception as error:
            why = error
    raise why


# What the container of a workspace has, and what others may not reach.


def plant(token):
    """Give this workspace one of everything, with the token in it; return where it is."""
    for path in PLANTED:
        with open(path, "w") as file:
            file.write(token)
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "\0" + token)):
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen()
        kept.append(listener)
        threading.Thread(target=_tell, args=(listener, token), daemon=True).start()
    port = kept[0].getsockname()[1]
    way = modal.forward(port)
    tunnel = way.__enter__()
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0x48000001, 4096, 0o1666)  # IPC_CREAT, for all users
    ctypes.memmove(libc.shmat(segment, None, 0), token.encode(), len(token))
    stock = modal.Dict.from_name(NAME, create_if_missing=True)
    stock["token"] = token
    line = modal.Queue.from_name(NAME, create_if_missing=True)
    line.put_many([token] * 9)
    secret = modal.Function.from_name("shop", "secret")
    ended = secret.spawn()
    ended.get()
    waiting = secret.spawn(600)
    kept.append(way)
    return {
        "loopback": port,
        "abstract": token,
        "tunnel": way._name,
        "tunnel_host": tunnel.host,
        "dict": stock.object_id,
        "queue": line.object_id,
        "call": ended.object_id,
        "waiting": waiting.object_id,
        "shm": segment,
    }


def _tell(listener, token):
    while True:
        visitor, _ = listener.accept()
        with visitor, contextlib.suppress(OSError):
            visitor.sendall(token.encode())


def own_key():
    from homeport.sdk import context

    return context.reach().key


class Unix(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path=SOCKET):
        super().__init__("homeport", timeout=30)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(method, path, fields=(), body=b"", to=Unix):
    """Return status and body; `fields` are pairs, so that one can be there twice."""
    with contextlib.closing(to()) as connection:
        connection.putrequest(
            method,
            path,
            skip_accept_encoding=True,
            skip_host="Host" in dict(fields) or path[:1] != "/",
        )
        for name, value in (*fields, ("Content-Length", str(len(body)))):
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20)


def forged(v):
    """The ways to pass for somebody else: fields of a request by the socket `calls`."""
    key = own_key()
    other = ("X-Homeport-Key", "0" * 40)
    mine = ("X-Homeport-Key", key)
    yield [mine]
    for name in ("globex", "globex/main", "main", "../globex/main", "*"):
        yield [mine, ("Homeport-Environment", name)]
    yield [mine, ("X-Homeport-Workspace", "globex"), ("Homeport-Workspace", "globex")]
    yield [mine, mine]
    yield [other, mine]
    yield []
    yield [other]
    yield [("X-Homeport-Key", "")]
    yield [
        ("Authorization", f"Bearer {v['admin']}")
    ]  # that of the whole server, which it cannot have
    yield [mine, ("Authorization", f"Bearer {v['admin']}"), ("X-Homeport-Source", "127.0.0.1")]


# By name, by id and by guess, with the SDK of the container.


@probe
def dict_by_name(v):
    return has(modal.Dict.from_name(NAME)["token"], v)


@probe
def dict_by_id(v):
    return has(modal.Dict.from_id(v["dict"])["token"], v)


@probe
def all_dicts(v):
    return has([list(each.values()) for each in modal.Dict.objects.list()], v)


@probe
def queue_by_name(v):
    return has(modal.Queue.from_name(NAME).get(block=False), v)


@probe
def queue_by_id(v):
    return has(modal.Queue.from_id(v["queue"]).get(block=False), v)


@probe
def outcome_of_a_call(v):
    return has(modal.FunctionCall.from_id(v["call"]).get(timeout=0), v)


@probe
def function_by_name(v):
    return has(modal.Function.from_name("shop", "secret").remote(), v)


@probe
def secret_in_the_environment(v):
    return has(os.environ, v)


@probe
def other_environments(v):
    """Those that are named `globex`, or as the server writes a scope."""

    def attempt(name):
        return has(modal.Dict.from_name(NAME, environment_name=name)["token"], v)

    return any_of([lambda n=n: attempt(n) for n in ("globex", "globex/main", "main")])


# By requests of its own, on the one socket that a container sees.

READS = (
    "/v1/dicts/{dict}",
    "/v1/queues/{queue}",
    "/v1/spawned/{call}",
    "/v1/spawned/{call}/children",
    "/v1/spawned/{call}/outcome",
)


@probe
def read_by_request(v):
    def attempt(path, fields):
        status, body = ask("GET", path.format(**v), fields)
        if status < 300 and body != b'{"calls":[]}':
            return f"{path}: {body[:80]!r}"
        raise Closed(status)

    return any_of([lambda p=p, f=f: attempt(p, f) for p in READS for f in forged(v)])


#: The routes of commands: no container has them, whatever it says.
COMMANDS = (
    *("GET /v1/status", "GET /v1/apps", "GET /v1/secrets", "GET /v1/containers", "GET /v1/logs"),
    *(
        "GET /v1/volumes",
        "GET /v1/volumes/treasure/files?path=/",
        "GET /v1/spawned",
        "GET /metrics",
    ),
    *("GET /v1/blobs/{sha256}", "PUT /v1/blobs/{sha256}", "POST /v1/blobs/missing"),
    *("GET /v1/environment", "GET /v1/environments", "GET /v1/workspaces", "GET /v1/tokens"),
    *("POST /v1/keep", "POST /v1/shutdown", "POST /v1/images/prune", "GET /v1/programs"),
    *("DELETE /v1/containers/{container}", "POST /v1/apps/shop/stop", "POST /v1/calls"),
    *("GET /v1/../metrics", "GET /v1/%2e%2e/metrics", "GET //v1/apps", "GET /V1/apps", "GET /v1/"),
    *("GET http://localhost/v1/apps", "GET http://localhost/metrics", "GET * ", "TRACE /v1/apps"),
)


def commands(v):
    """A command of the server. Not in the other's own container: no container may have them."""

    def attempt(command, fields):
        method, _, path = command.partition(" ")
        status, body = ask(method, path.strip().format(**v), fields)
        if status < 400:
            return f"{command} {fields}: {status} {body[:80]!r}"
        raise Closed(status)

    ways = [way for way in forged(v) if ("X-Homeport-Key", own_key()) in way or len(way) < 2]
    return any_of([lambda c=c, f=f: attempt(c, f) for c in COMMANDS for f in ways])


@probe
def call_by_its_endpoint(v):
    """The other's function, by the ids of endpoints that can be guessed, and by those of its URLs."""
    from homeport.contract import calls

    key = own_key()
    guesses = [
        *(
            calls.endpoint_id("shop", "secret", key=k)
            for k in (key, "", "0" * 40, "main", "globex")
        ),
        *("globex--shop-guarded", "globex--shop-probe", "call-" + "0" * 32, "shop/secret", "*"),
    ]

    def attempt(fields):
        body = json.dumps({"args": [], "kwargs": {}}).encode()
        given = [("Content-Type", calls.JSON), ("X-Homeport-Form", "value"), *fields]
        return has(ask("POST", "/", given, body)[1], v)

    single = [[(calls.CALL, guess)] for guess in guesses]
    double = [[(calls.CALL, a), (calls.CALL, b)] for a, b in itertools.pairwise(guesses)]
    return any_of([lambda f=f: attempt(f) for f in (*single, *double)])


@probe
def protected_url(v):
    """The other's endpoint that wants a proxy token of its own, with forged fields."""
    port = v["http_port"]
    host = ("Host", f"globex--shop-guarded.localhost:{port}")
    token = [("Modal-Key", v["wk"]), ("Modal-Secret", v["ws"])]
    ways = [
        [host],
        [host, *token],
        [host, ("X-Homeport-Call", "globex--shop-guarded"), ("X-Homeport-Key", own_key())],
        [host, ("X-Homeport-Hops", "1"), ("X-Homeport-Host", "globex--shop-guarded.localhost")],
        [host, ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "localhost")],
        [("Host", "acme--shop-guarded.localhost"), host, *token],
    ]

    def to():
        return http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    return any_of(
        [
            *(lambda w=w: has(ask("GET", "/", w, to=to)[1], v) for w in ways),
            *(lambda w=w: has(ask("GET", "/", w)[1], v) for w in ways),
        ]
    )


@probe
def list_of_urls(v):
    """What the main port tells to this machine alone: which URLs there are, and the numbers of apps."""

    def to():
        return http.client.HTTPConnection("127.0.0.1", v["http_port"], timeout=30)

    def attempt(path):
        status, body = ask("GET", path, [("Host", "localhost")], to=to)
        if b"globex--" in body or b"ada--" in body or b'app="' in body or status == 200:
            return f"{path}: {body[:200]!r}"
        raise Closed(status)

    return any_of([lambda p=p: attempt(p) for p in ("/", "/metrics")])


@probe
def api_port(v):
    def to():
        return http.client.HTTPConnection("127.0.0.1", v["api_port"], timeout=30)

    def attempt(path, fields):
        status, body = ask("GET", path, [("Host", "localhost"), *fields], to=to)
        if status < 400:
            return f"{path}: {body[:80]!r}"
        raise Closed(status)

    paths = ("/metrics", "/v1/status", "/v1/environment")
    return any_of(
        [lambda p=p, f=f: attempt(p, f) for p in paths for f in forged({**v, "admin": ""})]
    )


# Files, sockets and processes of the machine.


@probe
def planted_files(v):
    def attempt(path):
        with open(path, "rb") as file:
            return has(file.read(), v)

    roots = ("", f"/proc/{v['pid']}/root", *glob.glob("/proc/[0-9]*/root"))
    places = (*PLANTED, *(f"{each}/canary" for each in v["places"]))
    return any_of([lambda p=root + path: attempt(p) for root in roots for path in places])


@probe
def places_of_the_server(v):
    """The homes, sockets, volumes and trees of others; also by the links of this container's processes."""

    def attempt(path):
        return f"sees {path}: {os.lstat(path).st_size} bytes"

    roots = ("", *glob.glob("/proc/[0-9]*/root"))
    return any_of([lambda p=root + path: attempt(p) for root in roots for path in v["places"]])


@probe
def sockets_of_the_server(v):
    """Each socket of the server and of the other's containers, by its path, from each directory that this container has."""

    def attempt(path):
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(10)
            one.connect(path)
            return f"connected to {path}"

    above = ("", *("/run/homeport" + "/.." * up for up in range(4)), "/root/..", "/data/../..")
    return any_of([lambda p=a + path: attempt(p) for a in above for path in v["sockets"]])


@probe
def abstract_sockets_of_the_server(v):
    """Those that the machine's network shows: containers of a server, HAProxy's, the other's."""
    with open("/proc/net/unix") as file:
        names = {line.split()[-1] for line in file if " @" in line}

    def attempt(name):
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(5)
            one.connect("\0" + name[1:])
            return has(one.recv(1024), v)

    return any_of([lambda n=n: attempt(n) for n in ["@" + v["abstract"], *sorted(names)[:50]]])


@probe
def port_on_loopback(v):
    with socket.create_connection(("127.0.0.1", v["loopback"]), 10) as one:
        return has(one.recv(1024), v)


@probe
def memory_segment(v):
    libc.shmat.restype = ctypes.c_void_p
    for segment in (libc.shmget(0x48000001, 4096, 0), v["shm"]):
        address = libc.shmat(segment, None, 0o10000)
        if address not in (None, ctypes.c_void_p(-1).value):
            return has(ctypes.string_at(address, 64), v)
    raise Closed("no segment")


@probe
def signal_a_process(v):
    os.kill(v["pid"], 0)
    return f"may signal {v['pid']}"


@probe
def process_behind_the_socket(v):
    """HAProxy, or the control plane, by the socket that each container has (SO_PEERPIDFD, Linux 6.5)."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(SOCKET)
        handle = struct.unpack("i", one.getsockopt(socket.SOL_SOCKET, 77, 4))[0]
    signal.pidfd_send_signal(handle, 0)
    return "may signal it"


# Last: what would change the other's things.


@last
def claim_an_attempt(v):
    def attempt(kind, fields):
        told = {"call": v["waiting"], "container": "ta-thief", "kind": kind, "python": "3"}
        head = urllib.parse.urlencode(told).encode()
        body = struct.pack(">I", len(head)) + head + struct.pack(">I", 0)
        status, answer = ask("POST", "/v1/spawned/reports", fields, body)
        if status < 300 and json.loads(answer)["statuses"] == [200]:
            return f"{kind}: {status}"
        raise Closed(f"{status} {answer[:80]!r}")

    return any_of([lambda k=k, f=f: attempt(k, f) for k in ("", "value") for f in forged(v)])


@last
def cancel_a_call(v):
    modal.FunctionCall.from_id(v["waiting"]).cancel(terminate_containers=True)
    return "cancelled it"


@last
def put_into_a_dict(v):
    modal.Dict.from_id(v["dict"])["planted"] = secrets.token_hex(4)
    return "put a value"


@last
def delete_a_queue(v):
    modal.Queue.objects.delete(v["queue"])
    return "deleted it"


@last
def close_a_tunnel(v):
    status, body = ask("DELETE", f"/v1/tunnels/{v['tunnel']}", [("X-Homeport-Key", own_key())])
    if status < 300:
        return "closed it"
    raise Closed(f"{status} {body[:80]!r}")


def attempts(v):
    """Try everything; return what each probe has reached, and why the others have not."""
    found = {}
    wanted = {"commands": commands} if v.get("is_other") else {}
    for name, function in {**PROBES, **wanted, **LAST}.items():
        try:
            found[name] = [function(v), ""]
        except BaseException as error:
            found[name] = [None, f"{type(error).__name__}: {error}"]
    return found
