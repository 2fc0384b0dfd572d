"""A Flask hello: homeport beside gunicorn and Granian."""

from contextlib import AbstractContextManager
from pathlib import Path

from bench import pairs
from bench.contenders.base import Contender, Program, Running
from bench.contenders.home import Homeport
from bench.figures import number, spread
from bench.measures.requests import Requests, cpu_parts
from bench.plan import Plan
from bench.results import Limit, Table

THREADS = 32


class Gunicorn(Program):
    """One worker with threads."""

    name = "gunicorn"
    told = f"`gunicorn --workers 1 --threads {THREADS} flask_web:web`"
    environment = "gunicorn"
    packages = ["gunicorn", "flask"]

    def argv(self, port: int) -> list[str]:
        words = [str(self.folder / "bin" / "gunicorn"), "--workers", "1", "--keep-alive", "60"]
        words += ["--threads", str(THREADS), "--log-level", "warning"]
        return [*words, "--bind", f"127.0.0.1:{port}", "flask_web:web"]


class GranianWsgi(Program):
    """One worker with threads."""

    name = "Granian WSGI"
    told = f"`granian --interface wsgi --blocking-threads {THREADS} flask_web:web`"
    environment = "granian-wsgi"
    packages = ["granian", "flask"]

    def argv(self, port: int) -> list[str]:
        words = [str(self.folder / "bin" / "granian"), "--interface", "wsgi", "--workers", "1"]
        words += ["--blocking-threads", str(THREADS), "--log-level", "warning"]
        return [*words, "--port", str(port), "flask_web:web"]


class HomeportWsgi(Homeport):
    """`@modal.wsgi_app()`."""

    told = f"`@modal.wsgi_app()` with `@modal.concurrent(max_inputs={THREADS})`"

    def start(self, root: Path) -> AbstractContextManager[Running]:
        return super().start(root, "homeport_flask.py")


class Wsgi(Requests):
    """The same as for FastAPI, without the connections that no thread would serve."""

    name = "wsgi"
    rounds = (3, 1)
    connections = (1, THREADS)

    def tables(self, found: pairs.Pairs) -> list[Table]:
        return [self.throughput(found, "Flask: requests"), self.cpu(found, "Flask: CPU time")]


def measure(plan: Plan) -> None:
    """gunicorn is what Flask's users run, so it is what the others are divided by."""
    there: list[Contender] = []
    everyone: list[Contender] = [Gunicorn(), GranianWsgi(), HomeportWsgi()]
    for contender in everyone:
        try:
            contender.install()
            there.append(contender)
        except Exception as error:
            plan.failed(f"wsgi, {contender.name}", error)
    reference, *others = there
    each = Wsgi()
    found = pairs.run(plan, reference, others, [each])
    plan.findings.tables += each.tables(found[each.name])
    plan.findings.limits += _limits(found[each.name])


def _limits(found: pairs.Pairs) -> list[Limit]:
    """The container's share, which is what an app server is."""
    if not {HomeportWsgi.name, GranianWsgi.name} <= found.of.keys():
        return []
    own = cpu_parts(found, HomeportWsgi.name, THREADS)["container"]
    other = found.own(GranianWsgi.name, f"cpu_us@{THREADS}")
    return [
        Limit(
            what=f"Flask hello, CPU of the container at {THREADS} connections, us",
            now=str(spread(own)),
            beside=f"Granian {spread(other)}",
            goal=f"at most {number(1.2 * spread(other).median)} (1.2 times Granian's)",
        )
    ]
