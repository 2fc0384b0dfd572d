"""A WebSocket over HTTP/2 by hand (RFC 8441): an extended CONNECT, then RFC 6455 frames in DATA."""

import socket

import h2.config
import h2.connection
import h2.events
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage


def said(wire: socket.socket, scheme: str, authority: str, path: str, text: str) -> str:
    """Return what the app answers to a text in a WebSocket on this connection."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http.initiate_connection()
    wire.sendall(http.data_to_send())

    def until(kind):
        while True:
            for event in http.receive_data(wire.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, kind):
                    wire.sendall(http.data_to_send())
                    return event
            wire.sendall(http.data_to_send())

    settings = until(h2.events.RemoteSettingsChanged).changed_settings
    assert 1 == settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL].new_value
    stream = http.get_next_available_stream_id()
    http.send_headers(
        stream,
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", scheme),
            (":path", path),
            (":authority", authority),
            ("sec-websocket-version", "13"),
        ],
    )
    wire.sendall(http.data_to_send())
    assert "200" == dict(until(h2.events.ResponseReceived).headers)[":status"]
    chat = Connection(ConnectionType.CLIENT)
    http.send_data(stream, chat.send(TextMessage(data=text)))
    wire.sendall(http.data_to_send())
    chat.receive_data(until(h2.events.DataReceived).data)
    message = next(iter(chat.events()))  # the app may have closed already
    http.send_data(stream, chat.send(CloseConnection(code=1000)))
    wire.sendall(http.data_to_send())
    return message.data
