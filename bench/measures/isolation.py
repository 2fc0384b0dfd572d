"""What a cell costs a warm request: the same homeport with isolation off and on."""

from bench import pairs
from bench.contenders.home import Homeport
from bench.figures import differences
from bench.measures.requests import Requests
from bench.plan import Plan
from bench.results import Table

CONNECTIONS = (1, 32)


class Off(Homeport):
    """Containers see this machine's files, as before there were cells."""

    name = "isolation off"
    isolation = "off"


class On(Homeport):
    """Each container in a cell; it does not start where that is not possible."""

    name = "isolation on"
    isolation = "on"


class Warm(Requests):
    """CPU time alone: the steadiest figure."""

    name = "isolation"
    rounds = (6, 1)
    connections = CONNECTIONS

    def tables(self, found: pairs.Pairs) -> list[Table]:
        return [self.cpu(found, "A cell's CPU time a request")]


def measure(plan: Plan) -> None:
    """Both run beside each other and are asked in turn."""
    each = Warm()
    found = pairs.run(plan, Off(), [On()], [each])[each.name]
    plan.findings.tables += each.tables(found)
    for count in CONNECTIONS:
        if both := found.figure(On.name, f"cpu_us@{count}"):
            plan.findings.headlines.append(
                f"Isolation takes {differences(both)} us of CPU time more for a warm request at "
                f"{count} connection{'s' if count > 1 else ''}."
            )
