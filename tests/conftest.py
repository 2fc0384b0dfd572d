"""What each test starts with: its own home, and no variable of the outer environment."""

import asyncio
import functools
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest

from tests import isolation, litter, rebound
from tests import postgres as postgres_server

gc.disable()  # until all tests are collected: nearly all that is imported stays
OBJECTS = 20_000  # new ones between two collections of garbage; with Python's 700, a tenth of the work of tests/control
APPS = Path(__file__).parent / "apps"
CONTROL = Path(__file__).resolve().parent / "control"
# A container has its own /tmp, so files that a test and its container share must be elsewhere.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")
# Without bytecode, each process compiles all that it imports: a fifth of the work of tests/control.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Each client of httpx reads every CA, which takes longer than most requests of a test; so one context is for all of them.
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@functools.cache
def _usual_context(*_variables):
    return httpx.create_ssl_context()


def _context(verify=True, cert=None, trust_env=True):
    if verify is True and cert is None and trust_env:
        return _usual_context(*map(os.environ.get, CA_VARIABLES))
    return httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)


httpx._transports.default.create_ssl_context = _context
# How fast a machine makes examples is no matter of the code. Each run makes others, so few of them find much in time.
for profile, examples in (("few", 25), ("many", 400)):
    hypothesis.settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


def pytest_xdist_auto_num_workers(config):
    cores = os.cpu_count() or 1
    chosen = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    # These compute most of the time, and each worker imports everything first. Journeys wait for other processes half of theirs.
    computes = all(path.is_relative_to(CONTROL) for path in chosen)
    return cores + cores // 2 if computes else 2 * cores


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    isolation.send(node.workerinput)


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        isolation.receive(config.workerinput)
    hypothesis.settings.load_profile("many" if config.getoption("--soak") else "few")
    # A shell starts what runs in its background without Ctrl-C, and the commands in the tests would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # On Python 3.11 pytest-asyncio asks for the current loop; an implicit one is never closed.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    config.add_cleanup(loop.close)


def pytest_addoption(parser):
    parser.addoption(
        "--postgres",
        action="store_true",
        help="keep the state of every server that a test starts in PostgreSQL, not in a file",
    )
    parser.addoption(
        "--soak",
        action="store_true",
        help="also run what takes minutes and differs little from what runs anyway, and make many examples",
    )


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--soak"):
        left_out = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session):
    # What is there by now stays; else each collection of garbage looks at all modules again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS)
    gc.enable()


def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):  # xdist's workers end before it does
        litter.remove_dead()
        litter.remove_clocks()


def _of_process() -> dict[str, object]:
    """Return what a test may change of its process, and has to put back: the next tests would see it."""
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {
        "environment": own,
        "working directory": os.getcwd(),
        "sys.path": list(sys.path),
        "signal handlers": [signal.getsignal(number) for number in handled],
        "timeout of sockets": socket.getdefaulttimeout(),
        "limit of open files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


@pytest.fixture(autouse=True)
def _process_as_before():
    before, held = _of_process(), rebound.held()
    yield
    assert before == _of_process(), "the test has changed its process: use `monkeypatch`"
    after = rebound.held()
    changed = [name for name, value in held.items() if after[name] != value]
    assert not changed, f"the test has changed {', '.join(changed)}: use `monkeypatch`"


@pytest.fixture(autouse=True)
def _clean_environment(_process_as_before, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("HOMEPORT_", "MODAL_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _state_in_postgres(request):
    if request.config.getoption("--postgres"):
        postgres_server.everywhere = request.getfixturevalue("postgres")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A HOMEPORT_HOME that is removed with the test's directory."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("HOMEPORT_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Postgres]:
    """A real PostgreSQL for the tests of this worker."""
    with postgres_server.running() as server:
        yield server


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database_setting(request, tmp_path) -> Iterator[str]:
    """The setting `database` for an empty database: once SQLite, once PostgreSQL."""
    if request.param == "SQLite":
        yield ""
        return
    server = request.getfixturevalue("postgres")
    yield server.url_of(tmp_path)
    server.drop(tmp_path)


@pytest.fixture
def empty_database(database_setting, tmp_path):
    """A database without tables."""
    from homeport.state import urls
    from homeport.state.database import Database

    database = Database(urls.of(database_setting, tmp_path))
    yield database
    database.dispose()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
async def database(request, tmp_path):
    """A database with the newest tables, as a copy: once SQLite, once PostgreSQL."""
    from tests import databases

    if request.param == "SQLite":
        database = databases.copied(tmp_path)
    else:
        database = databases.opened(tmp_path, server=request.getfixturevalue("postgres"))
    yield database
    await database.close()
    if request.param == "PostgreSQL":
        request.getfixturevalue("postgres").drop(tmp_path)


@pytest.fixture
def apps() -> Path:
    """The folder of users' scripts."""
    return APPS
