"""A contender that is there already: requests, CPU time, streams, bodies, each beside uvicorn."""

from bench import pairs
from bench.figures import differences, number, ratios
from bench.measures.bodies import Bodies
from bench.measures.requests import Requests, cpu_parts
from bench.measures.sse import Sse
from bench.measures.websocket import WebSocket
from bench.plan import Plan
from bench.results import DASH, Findings, Limit


def measure(plan: Plan) -> None:
    """One start of each contender for all of it."""
    reference, *others = plan.contenders
    measures = [Requests(), Sse(), WebSocket(), Bodies()]
    found = pairs.run(plan, reference, others, measures)
    for each in measures:
        plan.findings.tables += each.tables(found[each.name])
    requests = found[Requests.name]
    _series(plan.findings, requests)
    _headlines(plan, requests)
    plan.findings.limits += _limits(requests, found[Bodies.name])


def _series(findings: Findings, requests: pairs.Pairs) -> None:
    """For the plot."""
    for contender in requests.of:
        compared = requests.figure(contender, "per_s@32")
        findings.series.setdefault("ratio@32", {})[contender] = [o / r for r, o in compared]
        compared = requests.figure(contender, "p50_us@1")
        findings.series.setdefault("added_us@1", {})[contender] = [o - r for r, o in compared]
    for contender in requests.names():
        for part, values in cpu_parts(requests, contender, 32).items():
            findings.series.setdefault("cpu_us@32", {})[f"{contender}: {part}"] = values


def _limits(requests: pairs.Pairs, bodies: pairs.Pairs) -> list[Limit]:
    """homeport and Granian, each beside uvicorn."""
    goals = [
        ("p50 at one connection above uvicorn's, us", requests, "p50_us@1", differences, "at most 100"),
        ("requests a second at 32 connections / uvicorn's", requests, "per_s@32", ratios, "at least 0.95"),
        ("1 GiB upload / uvicorn's", bodies, "up_mb_s", ratios, "at least 0.9"),
        ("1 GiB download / uvicorn's", bodies, "down_mb_s", ratios, "at least 0.8"),
    ]  # fmt: skip
    limits = []
    for what, measured, figure, compared, goal in goals:
        own = measured.figure("homeport", figure) if "homeport" in measured.of else []
        other = measured.figure("Granian", figure) if "Granian" in measured.of else []
        if own:
            beside = f"Granian {compared(other)}" if other else DASH
            limits.append(Limit(what=what, now=str(compared(own)), beside=beside, goal=goal))
    return limits


def _headlines(plan: Plan, requests: pairs.Pairs) -> None:
    """homeport beside the reference, and beside the best of its peers."""
    if "homeport" not in requests.of:
        return
    per_s = requests.figure("homeport", "per_s@32")
    cpu_us = requests.figure("homeport", "cpu_us@32")
    p50_us = requests.figure("homeport", "p50_us@1")
    plan.findings.headlines.append(
        f"A warm request beside plain {requests.reference}: {ratios(per_s)} of its requests a second "
        f"at 32 connections, {differences(cpu_us)} us more CPU time, and at one connection "
        f"{differences(p50_us)} us more latency (p50)."
    )
    others = [each.name for each in plan.peers() if not each.app_server]
    peers = {
        name: ratios(requests.figure(name, "per_s@32")) for name in others if name in requests.of
    }
    if peers:
        best = max(peers, key=lambda name: peers[name].median)
        times = ratios(per_s).median / peers[best].median
        plan.findings.headlines.append(
            f"The best peer, {best}, has {peers[best]} of {requests.reference}'s requests a second: "
            f"homeport has {number(times)} times as many."
        )
