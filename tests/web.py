"""A web server of the standard library, in a thread of a test."""

import contextlib
import http.server
import threading
from collections.abc import Iterator

POLL_S = 0.01  # the library's 0.5 s is what each end of a server would take


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[http.server.HTTPServer]:
    """Let a server answer in a thread, until the context ends."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def served(handler: type[http.server.BaseHTTPRequestHandler] | object):
    """Return the context of a server at a free port of 127.0.0.1."""
    return serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
