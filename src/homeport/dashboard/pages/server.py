"""The server: calls, schedules, tokens, images, certificates, the audit log, and the machine."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

from markupsafe import Markup

from homeport.contract import labels, names
from homeport.contract.api.alerts import AlertList, FindingList
from homeport.contract.api.api_tokens import ApiTokenList
from homeport.contract.api.apps import AppList
from homeport.contract.api.audit import AuditList, AuditQuery
from homeport.contract.api.certificates import CertificateList
from homeport.contract.api.domains import DomainList
from homeport.contract.api.images import BuildLog, ImageList
from homeport.contract.api.nodes import NodeList
from homeport.contract.api.server import Status
from homeport.contract.api.spawned import CallList, CallsQuery
from homeport.contract.api.tokens import ProxyTokenList
from homeport.contract.errors import Failure
from homeport.contract.sizes import MIB
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, section, segment
from homeport.dashboard.pages.table import Cell, Column, Row, table

T = TypeVar("T")


def columns(*names: str) -> list[Column]:
    """Return columns by their names; `Size#` is one of numbers, `Id~` of code, `State?` of states, `Text+` a wide one."""
    kinds = {"#": "n", "~": "code", "?": "state"}
    return [
        Column(name=name.rstrip("#~?+"), kind=kinds.get(name[-1], ""), full=name[-1] == "+")
        for name in names
    ]


async def calls(visit: Visit) -> Part:
    """List spawned calls, and when schedules run next."""
    calls_query = CallsQuery(app=visit.parameter("app"), state=visit.parameter("state"), tail=200)
    listed, apps = await asyncio.gather(
        visit.api.get(CallList, "/v1/spawned", calls_query), visit.api.get(AppList, "/v1/apps")
    )
    due = sorted(
        (function.next_run, app.name, function.name)
        for app in apps.apps
        for function in app.functions
        if function.next_run is not None
    )
    timed = [Row(id=f"{app}-{name}", cells=[names.endpoint(app, name), render.moment(at)]) for at, app, name in due]  # fmt: skip
    rows = [
        Row(
            id=f"{spawned.id}-{spawned.place}",
            bad=spawned.state == "failed",
            cells=[
                Cell(text=spawned.id, note=f"input {spawned.place}" if spawned.place else "", bad=spawned.note),
                names.endpoint(spawned.app, spawned.function),
                spawned.state,
                render.moment(spawned.created_at),
                render.milliseconds(_took_ms(spawned.started_at, spawned.ended_at)),
                spawned.attempt + 1,
                Cell(text=spawned.container, href=visit.path("/logs", app=spawned.app, container=spawned.container) if spawned.container else ""),
            ],
        )
        for spawned in listed.calls
    ]  # fmt: skip
    heads = columns("Call", "Function", "State?", "Made", "Took#", "Attempts#", "Container~")
    return section(
        "Calls",
        table("Schedules", columns("Function", "Runs next"), timed, empty="No function has a schedule.", id="due"),
        table("Spawned calls, the newest first", heads, rows, empty="No call was spawned."),
        live_s=3.0,
        find="#rows",
    )  # fmt: skip


def _took_ms(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else 1000 * (ended - began)


async def tokens(visit: Visit) -> Part:
    """List tokens of the API, and proxy tokens, without their secrets."""
    own, proxies = await asyncio.gather(
        _or_why(visit.api.get(ApiTokenList, "/v1/tokens")),
        _or_why(visit.api.get(ProxyTokenList, "/v1/proxy-tokens")),
    )
    parts = []
    if not isinstance(own, Failure):
        rows = [
            Row(
                id=token.id,
                cells=[
                    Cell(text=token.id, note=token.name),
                    token.user,
                    ", ".join(scope.value for scope in token.scopes),
                    token.workspace + (f" / {', '.join(token.environments)}" if token.environments else ""),
                    render.moment(token.created_at),
                    render.moment(token.expires_at) if token.expires_at else "never",
                    render.moment(token.used_at),
                ],
            )
            for token in own.tokens
        ]  # fmt: skip
        heads = columns("Token", "User", "Scopes", "Workspace", "Created", "Expires", "Last use")
        parts.append(table("Tokens of the API", heads, rows, empty="There is none: `homeport token create` makes one.", id="own"))  # fmt: skip
    else:
        parts.append(_missing("Tokens of the API", own))
    if not isinstance(proxies, Failure):
        rows = [
            Row(
                id=proxy.token_id,
                cells=[
                    Cell(text=proxy.token_id, note=proxy.name),
                    ", ".join(proxy.scopes) or "the whole environment",
                    proxy.rate or "no limit",
                    render.moment(proxy.created_at),
                    render.moment(proxy.expires_at) if proxy.expires_at else "never",
                    render.moment(proxy.used_at),
                ],
            )
            for proxy in proxies.tokens
        ]
        heads = columns("Token", "Opens", "Rate", "Created", "Expires", "Last use")
        parts.append(table("Proxy tokens", heads, rows, empty="There is none: `homeport proxy-token create` makes one.", id="proxy"))  # fmt: skip
    else:
        parts.append(_missing("Proxy tokens", proxies))
    return section("Tokens", *parts)


async def images(visit: Visit) -> Part:
    """List the images that are built."""
    listed = await visit.api.get(ImageList, "/v1/images")
    rows = [
        Row(
            id=image.key,
            cells=[
                Cell(text=image.key, href=visit.path("/image/log", key=image.key)),
                "\n".join(image.steps),
                image.python_version,
                render.size(image.size_bytes),
                image.used_by,
                render.moment(image.created_at),
                render.moment(image.used_at),
            ],
        )
        for image in listed.images
    ]
    total = sum(image.size_bytes for image in listed.images)
    heads = columns("Image", "Steps+", "Python", "Size#", "Below#", "Built", "Last use")
    lead = f"{len(rows)} on this machine, {render.size(total)} in all. `homeport image prune` removes what nothing needs."
    return section("Images", table("", heads, rows, empty="No image is built: apps use homeport's own packages."), lead=lead, find="#rows")  # fmt: skip


async def image_log(visit: Visit) -> Part:
    """Show what the build of an image printed."""
    key = visit.parameter("key")
    log = await visit.api.get(BuildLog, f"/v1/images/{segment(key)}/log")
    shown = render.template("text", text=log.text or "Its build has printed nothing.")
    return section(f"Build of {key}", shown)


async def certificates(visit: Visit) -> Part:
    """List certificates and custom domains."""
    listed, domains = await asyncio.gather(
        visit.api.get(CertificateList, "/v1/certificates"),
        visit.api.get(DomainList, "/v1/domains"),
    )
    rows = [
        Row(
            id=certificate.host,
            bad=certificate.state == "failed",
            cells=[
                Cell(text=certificate.host, bad=certificate.error, note=certificate.hint),
                certificate.state,
                certificate.source,
                render.moment(certificate.valid_until),
                render.moment(certificate.renew_at),
                render.moment(certificate.next_try),
            ],
        )
        for certificate in listed.certificates
    ]
    own = [
        Row(
            id=domain.domain,
            bad=bool(domain.problem),
            cells=[
                Cell(text=domain.domain, bad=domain.problem),
                names.endpoint(domain.app, domain.tag),
                domain.dns,
                domain.certificate,
                "a command" if domain.attached else "the script",
            ],
        )
        for domain in domains.domains
    ]
    heads = columns("Host", "State?", "Source", "Valid until", "Renewed", "Next try")
    of_domains = columns("Domain", "Endpoint", "DNS", "Certificate", "Attached by")
    return section(
        "Certificates",
        table("", heads, rows, empty="No certificate is kept: without HTTPS, or with certificates of your own, none is needed."),
        table("Custom domains", of_domains, own, empty="There is none: `homeport domain add` attaches one.", id="domains"),
    )  # fmt: skip


async def audit(visit: Visit) -> Part:
    """List the changes in the audit log."""
    audit_query = AuditQuery(
        tail=300,
        app=visit.parameter("app"),
        user=visit.parameter("user"),
        environment=visit.parameter("of"),
    )
    listed = await visit.api.get(AuditList, "/v1/audit", audit_query)
    rows = [
        Row(
            id=str(entry.id),
            bad=entry.result not in ("ok", "begun", "left"),
            cells=[
                Cell(text=entry.action),
                render.moment(entry.at),
                " ".join(filter(None, (entry.user or entry.by, entry.token))),
                entry.source or "this machine",
                " ".join(filter(None, (entry.environment, entry.app))),
                entry.target,
                entry.result,
            ],
        )
        for entry in reversed(listed.entries)
    ]
    heads = columns("Action", "When", "Who", "From", "App", "Target+", "Result")
    return section("Audit log", table("", heads, rows, empty="Nothing was changed."), find="#rows")


async def machine(visit: Visit) -> Part:
    """Show the server, its nodes and its settings."""
    status, machines, findings, alerts = await asyncio.gather(
        visit.api.get(Status, "/v1/status"),
        _or_why(visit.api.get(NodeList, "/v1/nodes")),
        visit.api.get(FindingList, "/v1/findings"),
        _or_why(visit.api.get(AlertList, "/v1/alerts")),
    )
    nodes = Counter(
        (container.node or "here", container.state.value)
        for app in status.apps
        for container in app.containers
    )
    facts = [
        ("Version", status.version),
        ("Started", render.moment(status.started_at)),
        ("Address", f"{status.host}:{status.http_port}" + (f", {status.https_port} (HTTPS)" if status.https_port else "")),
        ("Domain", status.domain),
        ("Database", status.database or "a file in the home"),
        ("Home", status.home),
        ("HAProxy", f"pid {status.ingress_pid}" if status.ingress_pid else "does not run"),
        ("Server", f"pid {status.pid}" + ("" if status.kept else ", for one command")),
    ]  # fmt: skip
    rows = [Row(id=f"{node}-{state}", cells=[node, state, count]) for (node, state), count in sorted(nodes.items())]  # fmt: skip
    settings = [Row(id=name, cells=[name, "" if value is None else value]) for name, value in sorted(status.settings.items())]  # fmt: skip
    return section(
        "Machine",
        render.template("facts", facts=facts, trouble=status.trouble),
        _findings(findings),
        _alerts(alerts),
        *([_machines(machines)] if status.nodes else []),
        table("Containers", columns("Node", "Containers", "Count#"), rows, empty="No container runs.", id="nodes"),
        table("Settings in force", columns("Setting", "Value~"), settings, empty=""),
        live_s=5.0,
    )  # fmt: skip


def _machines(listed: NodeList | Failure) -> Markup:
    """Show the machines that have joined."""
    if isinstance(listed, Failure):
        return _missing("Other machines", listed)
    rows = [
        Row(
            id=node.name,
            bad=node.health != "ready" and not node.drained,
            cells=[
                Cell(text=node.name, note=labels.written(node.labels)),
                "drained" if node.drained and node.health == "ready" else node.health,
                node.containers,
                node.cores,
                None if node.memory_mib is None else render.size(node.memory_mib * MIB),
                None if node.free_mib is None else render.size(node.free_mib * MIB),
                render.milliseconds(node.round_trip_ms),
                node.version,
            ],
        )
        for node in listed.nodes
    ]
    heads = columns("Machine", "State?", "Containers#", "Cores#", "Memory#", "Free disk#", "Round trip#", "homeport")  # fmt: skip
    return table("Other machines", heads, rows, empty="None has joined.", id="machines")


def _findings(listed: FindingList) -> Markup:
    rows = [
        Row(
            id=str(place),
            bad=finding.needed,
            cells=[
                Cell(text=finding.what),
                finding.app,
                Cell(text=finding.text, note=finding.hint),
            ],
        )
        for place, finding in enumerate(listed.findings)
    ]
    heads = columns("What is wrong", "App", "Why+")
    return table("Findings", heads, rows, empty="Nothing is wrong.", id="findings")


def _alerts(listed: AlertList | Failure) -> Markup:
    if isinstance(listed, Failure):
        return _missing("Alerts", listed)
    rows = [
        Row(
            id=alert.name,
            bad=alert.state == "firing",
            cells=[
                Cell(text=alert.name, bad=alert.error),
                f"{alert.kind} {alert.limit:g}",
                names.endpoint(alert.app, alert.tag),
                alert.state,
                render.moment(alert.since),
                alert.target,
                alert.text,
            ],
        )
        for alert in listed.alerts
    ]
    heads = columns("Alert", "Watches", "Of", "State?", "Since", "Tells", "Found+")
    return table(
        "Alerts", heads, rows, empty="There is none: `homeport alert add` makes one.", id="alerts"
    )


async def _or_why(asking: Awaitable[T]) -> T | Failure:
    """Return an answer, or the failure that is shown to the visitor in its place."""
    try:
        return await asking
    except Failure as failure:
        return failure


def _missing(title: str, failure: Failure) -> Markup:
    return render.template("missing", title=title, failure=failure)


PAGES = (
    Page(path="/calls", handler=calls),
    Page(path="/tokens", handler=tokens),
    Page(path="/images", handler=images),
    Page(path="/image/log", handler=image_log),
    Page(path="/certificates", handler=certificates),
    Page(path="/audit", handler=audit),
    Page(path="/machine", handler=machine),
)
