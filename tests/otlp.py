"""A receiver of OTLP over HTTP, as collectors are: real protobuf, gzip, partial successes, refusals."""

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests import web


class Receiver:
    """What it has received, and how it answers: `answers` has statuses and fields, the first for the next message."""

    def __init__(self) -> None:
        self.messages: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.rejects = 0  # spans of the next message
        self.asked = 0
        self.silent = threading.Event()  # set: it answers
        self.silent.set()
        self.url = ""

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order in which they came."""
        return [
            span
            for message in list(self.messages)
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, Any]:
        """The resource of the first message."""
        return attributes(self.messages[0].resource_spans[0].resource)

    def take(
        self, path: str, fields: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer a message, as the specification says."""
        self.asked += 1
        self.silent.wait(60)
        if path != "/v1/traces" or fields["content-type"] != "application/x-protobuf":
            return 404, {}, b""
        if self.answers:
            status, more = self.answers.pop(0)
            return status, more, b"not now"
        if fields.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.messages.append(ExportTraceServiceRequest.FromString(body))
        self.headers.append(fields)
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_spans, self.rejects = self.rejects, 0
            answer.partial_success.error_message = "too\nold"
        return 200, {"content-type": "application/x-protobuf"}, answer.SerializeToString()


def attributes(of: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    made = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fields = {name.lower(): value for name, value in self.headers.items()}
            status, more, answer = made.take(self.path, fields, body)
            try:
                self.send_response(status)
                for name, value in {**more, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
            except OSError:  # the exporter waits no longer
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    with web.serving(server):
        try:
            yield made
        finally:
            made.silent.set()
