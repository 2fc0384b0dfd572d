"""A contender that is there already: requests, CPU time, streams, bodies, each beside uvicorn."""

from bench import pairs
from bench.measures.bodies import Bodies
from bench.measures.requests import Requests, cpu_parts
from bench.measures.sse import Sse
from bench.measures.websocket import WebSocket
from bench.plan import Plan


def measure(plan: Plan) -> None:
    """One start of each contender for all of it."""
    reference, *others = plan.contenders
    measures = [Requests(), Sse(), WebSocket(), Bodies()]
    found = pairs.run(plan, reference, others, measures)
    for each in measures:
        plan.findings.tables += each.tables(found[each.name])
    requests = found[Requests.name]
    for contender in requests.names():
        if values := requests.own(contender, "per_s@32"):
            plan.findings.series.setdefault("per_s@32", {})[contender] = values
    for contender in requests.of:
        plan.findings.series.setdefault("added_us@1", {})[contender] = [
            own - reference for reference, own in requests.figure(contender, "p50_us@1")
        ]
    for contender in requests.names():
        for part, values in cpu_parts(requests, contender, 32).items():
            plan.findings.series.setdefault("cpu_us@32", {})[f"{contender}: {part}"] = values
