"""The rules for how a function can be reached: by URLs, by calls, or by both."""

import re

from homeport.contract import checks, names
from homeport.contract.calls import Retries
from homeport.contract.errors import ScriptError
from homeport.contract.manifest import CallMethod, FunctionSpec, WebKind, WebMethod
from homeport.contract.schedules import Schedule

MAX_METHODS = 100
MAX_WAIT_MS = 600_000
MAX_RETRIES = 10_000
TIMEOUT_S = (1.0, 86400.0)
_DOMAIN_PART = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z", re.ASCII)


def check(spec: FunctionSpec) -> None:
    """Check how the function is reached: by URLs, by calls, or by both."""
    checks.count((*spec.web, *spec.calls), MAX_METHODS, "methods")
    if not (spec.web or spec.calls):
        raise ScriptError(f"`{spec.name}` has no method that answers", where=spec.where)
    attributes = [web.attribute for web in spec.web] + [call.attribute for call in spec.calls]
    checks.unique("method", attributes)
    if spec.has_several and not spec.is_class:
        raise ScriptError(f"`{spec.name}` can have one method only", where=spec.where)
    checks.unique("port", map(str, spec.ports))
    if any(web.kind is WebKind.SERVER for web in spec.web) and (
        not spec.is_class or spec.parameters or spec.has_several
    ):
        raise ScriptError(
            f"`{spec.name}`: a server is a class without parameters and without other methods",
            where=spec.where,
        )
    for web in spec.web:
        _web(web)
    for call in spec.calls:
        _call(spec, call)
    if spec.retries is not None:
        _retries(spec, spec.retries)
    if spec.schedule is not None:
        _schedule(spec, spec.schedule)


def _call(spec: FunctionSpec, call: CallMethod) -> None:
    checks.text("where", call.where, checks.MAX_WHERE)
    if not checks.FUNCTION.match(call.tag):
        raise ScriptError(f"a function cannot be called {call.tag[:80]!r}", where=call.where)
    checks.qualname(call.attribute, call.where)
    if (batch := call.batch) is not None:
        if not 1 <= batch.size <= names.MAX_INPUTS or not 0 <= batch.wait_ms <= MAX_WAIT_MS:
            raise ScriptError(
                f"`{call.tag}`: a batch has 1 to {names.MAX_INPUTS} inputs, and waits "
                f"0 to {MAX_WAIT_MS} ms",
                where=call.where,
            )
        if call.generator or len(spec.calls) > 1:
            raise ScriptError(
                f"`{call.tag}`: a batched function cannot be a generator, and must be the only method of its class",
                where=call.where,
            )


def _retries(spec: FunctionSpec, retries: Retries) -> None:
    if spec.web:
        raise ScriptError("Web Functions do not support retries.", where=spec.where)
    bounds = (
        ("max_retries", retries.max_retries, 0, MAX_RETRIES),
        ("initial_delay", retries.initial_delay_s, 0, 60),
        ("backoff_coefficient", retries.backoff, 1, 10),
        ("max_delay", retries.max_delay_s, 1, 60),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:
            raise ScriptError(
                f"`{name}` of the retries of `{spec.name}` must be from {low} to {high}, not {str(value)[:40]}",
                where=spec.where,
            )


def _schedule(spec: FunctionSpec, schedule: Schedule) -> None:
    if spec.is_class or spec.web:
        raise ScriptError(
            f"`{spec.name}` cannot have a schedule",
            where=spec.where,
            hint="give it to a function without a URL, which may call this one",
        )
    if any(call.generator or call.batch is not None for call in spec.calls):
        raise ScriptError(
            f"`{spec.name}` has a schedule, and is a generator or a batched function",
            where=spec.where,
            hint="a scheduled function is called without arguments, and nothing reads its values",
        )
    if (problem := schedule.problem()) is not None:
        raise ScriptError(f"the schedule {schedule.text} {problem}", where=spec.where)


def _web(web: WebMethod) -> None:
    checks.text("where", web.where, checks.MAX_WHERE)
    if not checks.FUNCTION.match(web.tag):
        raise ScriptError(f"a web method cannot be called {web.tag[:80]!r}", where=web.where)
    checks.qualname(web.attribute, web.where)
    if web.label is not None and not names.is_label(web.label):
        raise ScriptError(f"`label={web.label[:80]!r}` cannot be part of a URL", where=web.where)
    if web.http_method not in names.HTTP_METHODS:
        raise ScriptError(
            f"`method={web.http_method[:40]!r}` is not an HTTP method", where=web.where
        )
    if (web.port is not None) != (web.kind in (WebKind.WEB_SERVER, WebKind.SERVER)):
        raise ScriptError(f"`{web.tag}`: a `web_server` or a server, and nothing else, has a port")
    if web.port is not None and not 1 <= web.port <= 65535:
        raise ScriptError(f"`{web.port}` is not a port", where=web.where)
    if not 0 < web.startup_timeout_s <= TIMEOUT_S[1]:
        raise ScriptError(
            f"`startup_timeout` of `{web.tag}` must be from 0 to {TIMEOUT_S[1]:g} seconds",
            where=web.where,
        )
    checks.count(web.custom_domains, MAX_METHODS, "custom domains")
    for name in web.custom_domains:
        try:
            canonical = domain(name)
        except ValueError:
            raise ScriptError(f"`{name[:300]}` is not a domain name.", where=web.where) from None
        if canonical != name.lower():
            raise ScriptError(f"write the domain `{name}` as `{canonical}`", where=web.where)


def domain(text: str) -> str:
    """Return a custom domain as HAProxy will see it: lower case, IDNA; `ValueError` if it is not a domain.

    RFC 1035 2.3.4, RFC 4592: a wildcard is the whole first label.

    >>> domain("*.Example.COM"), domain("bücher.example")
    ('*.example.com', 'xn--bcher-kva.example')
    """
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        name = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError(text) from None
    parts = name.split(".")
    if len(parts) < 2 or parts[-1].isdigit() or not all(map(_DOMAIN_PART.match, parts)):
        raise ValueError(text)
    if len(star + name) > 253:
        raise ValueError(text)
    return star + name
