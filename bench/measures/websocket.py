"""How long a WebSocket message takes there and back."""

import socket
import time

from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from bench.contenders.base import Can, Running
from bench.measures.sse import latency_table
from bench.pairs import Measure, Pairs, Sample
from bench.plan import Plan
from bench.results import Table

MESSAGE = b"how long does this take to come back?"
PATIENCE_S = 30.0


class WebSocket(Measure):
    """One connection, one message at a time."""

    name = "websocket"
    needs = Can.WEBSOCKET
    rounds = (5, 1)

    def sample(self, running: Running, plan: Plan) -> Sample:
        count = 300 if plan.quick else 2000
        protocol = ClientProtocol(
            parse_uri(f"ws://127.0.0.1:{running.port}{running.path}/echo"), max_size=None
        )
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol.send_request(protocol.connect())
            _exchange(connection, protocol, lambda event: hasattr(event, "status_code"))
            if protocol.handshake_exc is not None:
                raise protocol.handshake_exc
            took_us = []
            for _ in range(count):
                began = time.perf_counter()
                protocol.send_text(MESSAGE)
                _exchange(connection, protocol, _is_text)
                took_us.append((time.perf_counter() - began) * 1e6)
            protocol.send_close()
            for data in protocol.data_to_send():
                connection.sendall(data)
        took_us.sort()
        return {"p50_us": took_us[count // 2], "p99_us": took_us[count * 99 // 100]}

    def tables(self, pairs: Pairs) -> list[Table]:
        told = "Microseconds for a message there and back, one at a time."
        return [latency_table(pairs, "WebSocket echo", told)]


def _is_text(event: object) -> bool:
    return getattr(event, "opcode", None) is Opcode.TEXT


def _exchange(connection: socket.socket, protocol: ClientProtocol, wanted) -> None:
    """Send what there is to send, and read until what is wanted has come."""
    for data in protocol.data_to_send():
        connection.sendall(data)
    while True:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the server closed the connection")
        protocol.receive_data(piece)
        if any(wanted(event) for event in protocol.events_received()):
            return
        if protocol.handshake_exc is not None:
            return
