"""Sends spans to a receiver of OTLP over HTTP, with OpenTelemetry's own exporter (`pip install homeport[otel]`).

Its retries would keep a thread for long, log each failure, and ignore a receiver's `Retry-After`. So each
response that is not a success ends them here, and `exporter` decides what happens next.
"""

import importlib.metadata
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from homeport.control.reporting.traces.exporter import Refused, Unavailable
from homeport.control.reporting.traces.spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

TIMEOUT_S = 10.0  # of one message
ANSWER_BYTES = 64 * 1024  # that are read of an answer
AGAIN = (
    429,
    502,
    503,
    504,
)  # the same message may be sent again (OTLP 1.10, "Retryable Response Codes")


class Otlp:
    """One receiver. It is used by one thread, which imports OpenTelemetry when it sends for the first time."""

    def __init__(self, endpoint: str, headers: str = "") -> None:
        self._endpoint = f"{endpoint}/v1/traces"
        self._headers = fields(headers)
        self._exporter: Any = None
        self._session: Any = None
        self._common: dict[str, Any] = {}

    def send(self, spans: Sequence[Span]) -> None:
        """Send them, and wait for the answer; raise `Unavailable` or `Refused`."""
        if self._exporter is None:
            self._open()
        self._session.failure = None
        failed = True
        try:
            result = self._exporter.export([self._as_readable(span) for span in spans])
            failed = result.name != "SUCCESS"
        except Exception:
            if self._session.failure is None:
                raise
        if self._session.failure is not None:
            raise self._session.failure
        if failed:
            raise Unavailable("the receiver cannot be reached")

    def _open(self) -> None:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # `exporter` logs
        self._session = _session()
        self._exporter = OTLPSpanExporter(
            endpoint=self._endpoint,
            headers=self._headers,
            timeout=TIMEOUT_S,
            compression=Compression.Gzip,
            session=self._session,
        )
        version = importlib.metadata.version("homeport")
        own = Resource({"service.name": "homeport", "service.version": version})
        self._common = {
            "resource": own.merge(OTELResourceDetector().detect()),
            "instrumentation_scope": InstrumentationScope("homeport", version),
        }

    def _as_readable(self, span: Span) -> "ReadableSpan":
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(own: str, *, is_remote: bool) -> SpanContext:
            sampled = TraceFlags(TraceFlags.SAMPLED)
            return SpanContext(int(span.trace, 16), int(own, 16), is_remote, sampled)

        return ReadableSpan(
            name=span.name,
            context=context(span.id, is_remote=False),
            parent=context(span.parent, is_remote=span.is_remote) if span.parent else None,
            kind=SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
            attributes=span.attributes,
            status=Status() if span.error is None else Status(StatusCode.ERROR, span.error or None),
            start_time=span.begin_ns,
            end_time=span.end_ns,
            **self._common,
        )


def fields(text: str) -> dict[str, str]:
    """Return the fields that `otlp_headers` names.

    >>> fields("api-key=a%20b,x=")
    {'api-key': 'a b', 'x': ''}
    """
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def _session() -> Any:
    """Return a session of `requests` that takes nothing but a success for one."""
    import requests
    import urllib3

    class Session(requests.Session):
        failure: Exception | None = None

        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            # A redirect would take the fields, among them a key, to another host.
            options = {**kwargs, "stream": True, "allow_redirects": False}
            try:
                try:
                    response = super().send(request, **options)
                except requests.ConnectionError:  # the receiver may have closed an idle connection
                    response = super().send(request, **options)
                body = response.raw.read(ANSWER_BYTES, decode_content=True)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                self.failure = Unavailable(
                    f"the receiver cannot be reached ({type(error).__name__})"
                )
                raise self.failure from None
            response._content = body  # noqa: SLF001 - or it would be read without a limit
            response.close()
            self.failure = _failure(response.status_code, response.headers.get("retry-after"), body)
            if self.failure is not None:
                raise self.failure
            return response

    return Session()


def _failure(status: int, retry_after: str | None, body: bytes) -> Exception | None:
    """Return the failure in an answer; None for a success."""
    if status in AGAIN:
        return Unavailable(f"the receiver answers {status}", _seconds(retry_after))
    if not 200 <= status < 300:
        return Refused(f"the receiver answers {status}")
    return _partly(body)


def _partly(body: bytes) -> Refused | None:
    """Return the receiver's message if it took only a part of the spans."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    try:
        answer.ParseFromString(body)
    except DecodeError:  # some receivers answer with text
        return None
    if (count := answer.partial_success.rejected_spans) <= 0:
        return None
    text = answer.partial_success.error_message[:200]
    return Refused(f"the receiver rejects {count} spans: {text!r}")


def _seconds(text: str | None) -> float | None:
    """Return the pause that `Retry-After` asks for (RFC 9110, 10.2.3).

    >>> _seconds("30"), _seconds("soon"), _seconds(None)
    (30.0, None, None)
    """
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(text)
        return max((at - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
