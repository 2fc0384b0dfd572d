"""Asks the server for a function's numbers and URL, and changes its scaling: `get_current_stats`, `update_autoscaler`."""

import json
import urllib.parse
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.urls import usable
from homeport.sdk.objects import exchange
from homeport.sdk.objects.exchange import Ask
from homeport.sdk.objects.target import Target


@dataclass(frozen=True)
class FunctionStats:
    """The numbers of a function at one moment."""

    backlog: int  # calls that wait for a container
    num_total_runners: int  # containers
    num_running_inputs: int
    input_headroom: int  # calls that the containers could take in addition


@dataclass(frozen=True)
class AutoscalerSettings:
    """The settings in force."""

    min_containers: int
    max_containers: int | None
    buffer_containers: int
    scaledown_window: float
    target_inputs: int  # requests at once for which there is one container


class Scaled:
    """One function, or one class with its parameters (`Class.*`)."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @exchange.operation
    def stats(self) -> exchange.Steps[FunctionStats]:
        """Return the numbers of this moment."""
        yield from self._make_variant()
        numbers = json.loads((yield self.request()))
        return FunctionStats(
            backlog=numbers["backlog"],
            num_total_runners=numbers["containers"],
            num_running_inputs=numbers["running"],
            input_headroom=numbers["headroom"],
        )

    @exchange.operation
    def url(self) -> exchange.Steps[str | None]:
        """Return its URL; None if it has none."""
        return (yield from self.asked_url())

    def asked_url(self) -> "exchange.Steps[str | None]":
        """Make the steps of `url`."""
        answer = json.loads((yield self.request()))
        return usable(answer["url"], answer.get("local_url", "")) or None

    @exchange.operation
    def update(
        self,
        *,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: float | None = None,
    ) -> exchange.Steps[AutoscalerSettings]:
        """Change how many containers it has, until the next deploy; settings that are not given stay."""
        return (
            yield from self.changed(
                min_containers=min_containers,
                max_containers=max_containers,
                buffer_containers=buffer_containers,
                scaledown_window=scaledown_window,
            )
        )

    def changed(self, **settings: "float | None") -> exchange.Steps[AutoscalerSettings]:
        """Make the steps of `update`; None leaves a value as it is."""
        body = {name: value for name, value in settings.items() if value is not None}
        if "scaledown_window" in body:
            body["scaledown_window"] = float(body["scaledown_window"])
        yield from self._make_variant()
        scaling = json.loads((yield self.request("/scaling", body)))["scaling"]
        return AutoscalerSettings(**scaling)

    def _make_variant(self) -> exchange.Steps[None]:
        """Ask the server to make the variant, if the target is one: the server forgets an idle variant."""
        if self._target.variant:
            from homeport.sdk.objects import variants

            yield from variants.make(self._target)

    def request(self, below: str = "", body: "dict[str, Any] | None" = None) -> Ask:
        """Return the request for the function's numbers, or to a path below it."""
        target = self._target
        query = {
            name: value
            for name, value in (
                ("session", target.scope),
                ("parameters", target.query),
                ("variant", target.variant),
            )
            if value
        }
        path = urllib.parse.quote(target.tag, safe="") + below
        return Ask(
            "functions",
            target.app,
            f"{path}?{urllib.parse.urlencode(query)}" if query else path,
            body=b"" if body is None else json.dumps(body).encode(),
            method="GET" if body is None else "POST",
            content_type="application/json",
            environment=target.environment,
        )
