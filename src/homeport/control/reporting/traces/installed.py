"""Says at the start of the server whether what exports traces is installed. It is an extra."""

import importlib.util

from homeport.contract.errors import BadRequest
from homeport.settings import Settings

PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


def check(settings: Settings) -> None:
    """Raise if the settings want traces and a package for them is missing."""
    if settings.tracing != "off" and not all(map(_is_there, PACKAGES)):
        raise BadRequest(
            "`tracing` is `otlp`, and OpenTelemetry's exporter is not installed beside homeport",
            hint="type `pip install 'homeport[otel]'`, or set HOMEPORT_TRACING to `off`",
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
