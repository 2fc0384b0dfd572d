"""The server: calls, schedules, tokens, images, certificates, the audit log, and the machine."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

from markupsafe import Markup

from homeport.contract.api.alerts import AlertList, FindingList
from homeport.contract.api.api_tokens import ApiTokenList
from homeport.contract.api.apps import AppList
from homeport.contract.api.audit import AuditList, AuditQuery
from homeport.contract.api.certificates import CertificateList
from homeport.contract.api.domains import DomainList
from homeport.contract.api.images import BuildLog, ImageList
from homeport.contract.api.server import Status
from homeport.contract.api.spawned import CallList, CallsQuery
from homeport.contract.api.tokens import ProxyTokenList
from homeport.contract.errors import Failure
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
    asked = CallsQuery(app=visit.asked("app"), state=visit.asked("state"), tail=200)
    found, apps = await asyncio.gather(
        visit.api.get(CallList, "/v1/spawned", asked), visit.api.get(AppList, "/v1/apps")
    )
    due = sorted(
        (each.next_run, app.name, each.name)
        for app in apps.apps
        for each in app.functions
        if each.next_run is not None
    )
    timed = [Row(id=f"{app}-{name}", cells=[f"{app}.{name}", render.moment(at)]) for at, app, name in due]  # fmt: skip
    rows = [
        Row(
            id=f"{each.id}-{each.place}",
            bad=each.state == "failed",
            cells=[
                Cell(text=each.id, note=f"input {each.place}" if each.place else "", bad=each.note),
                f"{each.app}.{each.function}",
                each.state,
                render.moment(each.created_at),
                render.milliseconds(_took_ms(each.started_at, each.ended_at)),
                each.attempt + 1,
                Cell(text=each.container, href=visit.path("/logs", app=each.app, container=each.container) if each.container else ""),
            ],
        )
        for each in found.calls
    ]  # fmt: skip
    names = columns("Call", "Function", "State?", "Made", "Took#", "Attempts#", "Container~")
    return section(
        "Calls",
        table("Schedules", columns("Function", "Runs next"), timed, empty="No function has a schedule.", id="due"),
        table("Spawned calls, the newest first", names, rows, empty="No call was spawned."),
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
                id=each.id,
                cells=[
                    Cell(text=each.id, note=each.name),
                    each.user,
                    ", ".join(scope.value for scope in each.scopes),
                    each.workspace + (f" / {', '.join(each.environments)}" if each.environments else ""),
                    render.moment(each.created_at),
                    render.moment(each.expires_at) if each.expires_at else "never",
                    render.moment(each.used_at),
                ],
            )
            for each in own.tokens
        ]  # fmt: skip
        names = columns("Token", "User", "Scopes", "Workspace", "Created", "Expires", "Last use")
        parts.append(table("Tokens of the API", names, rows, empty="There is none: `homeport token create` makes one.", id="own"))  # fmt: skip
    else:
        parts.append(_missing("Tokens of the API", own))
    if not isinstance(proxies, Failure):
        rows = [
            Row(
                id=each.token_id,
                cells=[
                    Cell(text=each.token_id, note=each.name),
                    ", ".join(each.scopes) or "the whole environment",
                    each.rate or "no limit",
                    render.moment(each.created_at),
                    render.moment(each.expires_at) if each.expires_at else "never",
                    render.moment(each.used_at),
                ],
            )
            for each in proxies.tokens
        ]
        names = columns("Token", "Opens", "Rate", "Created", "Expires", "Last use")
        parts.append(table("Proxy tokens", names, rows, empty="There is none: `homeport proxy-token create` makes one.", id="proxy"))  # fmt: skip
    else:
        parts.append(_missing("Proxy tokens", proxies))
    return section("Tokens", *parts)


async def images(visit: Visit) -> Part:
    """List the images that are built."""
    found = await visit.api.get(ImageList, "/v1/images")
    rows = [
        Row(
            id=each.key,
            cells=[
                Cell(text=each.key, href=visit.path("/image/log", key=each.key)),
                "\n".join(each.steps),
                each.python_version,
                render.size(each.size_bytes),
                each.used_by,
                render.moment(each.created_at),
                render.moment(each.used_at),
            ],
        )
        for each in found.images
    ]
    total = sum(each.size_bytes for each in found.images)
    names = columns("Image", "Steps+", "Python", "Size#", "Below#", "Built", "Last use")
    lead = f"{len(rows)} on this machine, {render.size(total)} in all. `homeport image prune` removes what nothing needs."
    return section("Images", table("", names, rows, empty="No image is built: apps use homeport's own packages."), lead=lead, find="#rows")  # fmt: skip


async def image_log(visit: Visit) -> Part:
    """Show what the build of an image printed."""
    key = visit.asked("key")
    found = await visit.api.get(BuildLog, f"/v1/images/{segment(key)}/log")
    shown = render.template("text", text=found.text or "Its build has printed nothing.")
    return section(f"Build of {key}", shown)


async def certificates(visit: Visit) -> Part:
    """List certificates and custom domains."""
    found, domains = await asyncio.gather(
        visit.api.get(CertificateList, "/v1/certificates"),
        visit.api.get(DomainList, "/v1/domains"),
    )
    rows = [
        Row(
            id=each.host,
            bad=each.state == "failed",
            cells=[
                Cell(text=each.host, bad=each.error, note=each.hint),
                each.state,
                each.source,
                render.moment(each.valid_until),
                render.moment(each.renew_at),
                render.moment(each.next_try),
            ],
        )
        for each in found.certificates
    ]
    own = [
        Row(
            id=each.domain,
            bad=bool(each.problem),
            cells=[
                Cell(text=each.domain, bad=each.problem),
                f"{each.app}.{each.tag}",
                each.dns,
                each.certificate,
                "a command" if each.attached else "the script",
            ],
        )
        for each in domains.domains
    ]
    names = columns("Host", "State?", "Source", "Valid until", "Renewed", "Next try")
    of_domains = columns("Domain", "Endpoint", "DNS", "Certificate", "Attached by")
    return section(
        "Certificates",
        table("", names, rows, empty="No certificate is kept: without HTTPS, or with certificates of your own, none is needed."),
        table("Custom domains", of_domains, own, empty="There is none: `homeport domain add` attaches one.", id="domains"),
    )  # fmt: skip


async def audit(visit: Visit) -> Part:
    """List who changed what."""
    asked = AuditQuery(
        tail=300, app=visit.asked("app"), user=visit.asked("user"), environment=visit.asked("of")
    )
    found = await visit.api.get(AuditList, "/v1/audit", asked)
    rows = [
        Row(
            id=str(each.id),
            bad=each.result not in ("ok", "begun", "left"),
            cells=[
                Cell(text=each.action),
                render.moment(each.at),
                " ".join(filter(None, (each.user or each.by, each.token))),
                each.source or "this machine",
                " ".join(filter(None, (each.environment, each.app))),
                each.target,
                each.result,
            ],
        )
        for each in reversed(found.entries)
    ]
    names = columns("Action", "When", "Who", "From", "App", "Target+", "Result")
    return section("Audit log", table("", names, rows, empty="Nothing was changed."), find="#rows")


async def machine(visit: Visit) -> Part:
    """Show the server, its nodes and its settings."""
    status, findings, alerts = await asyncio.gather(
        visit.api.get(Status, "/v1/status"),
        visit.api.get(FindingList, "/v1/findings"),
        _or_why(visit.api.get(AlertList, "/v1/alerts")),
    )
    nodes = Counter(
        (each.node or "here", each.state.value) for app in status.apps for each in app.containers
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
        table("Nodes", columns("Node", "Containers", "Count#"), rows, empty="No container runs.", id="nodes"),
        table("Settings in force", columns("Setting", "Value~"), settings, empty=""),
        live_s=5.0,
    )  # fmt: skip


def _findings(found: FindingList) -> Markup:
    rows = [
        Row(
            id=str(place),
            bad=each.needed,
            cells=[Cell(text=each.what), each.app, Cell(text=each.told, note=each.hint)],
        )
        for place, each in enumerate(found.findings)
    ]
    names = columns("What is wrong", "App", "Why+")
    return table("Findings", names, rows, empty="Nothing is wrong.", id="findings")


def _alerts(found: AlertList | Failure) -> Markup:
    if isinstance(found, Failure):
        return _missing("Alerts", found)
    rows = [
        Row(
            id=each.name,
            bad=each.state == "firing",
            cells=[
                Cell(text=each.name, bad=each.error),
                f"{each.kind} {each.limit:g}",
                ".".join(filter(None, (each.app, each.tag))),
                each.state,
                render.moment(each.since),
                each.target,
                each.told,
            ],
        )
        for each in found.alerts
    ]
    names = columns("Alert", "Watches", "Of", "State?", "Since", "Tells", "Found+")
    return table(
        "Alerts", names, rows, empty="There is none: `homeport alert add` makes one.", id="alerts"
    )


async def _or_why(asking: Awaitable[T]) -> T | Failure:
    """Return an answer, or the failure that the visitor is told in its place."""
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
