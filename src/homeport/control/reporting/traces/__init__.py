"""Exports the requests that have ended as spans of OpenTelemetry, if the setting `tracing` says so.

`spans` makes them of a request's record (pure), `exporter` queues them and decides when to send, `otlp` sends. Only `otlp`
imports OpenTelemetry, which is an extra.
"""
