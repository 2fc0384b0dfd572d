"""docs/reference/metrics.md, from what the server renders."""

import re

from docs.generate.markdown import page as markdown
from docs.generate.markdown import table

from homeport.control.api import metrics

INTRO = """`http://127.0.0.1:4663/metrics` has the numbers of `homeport status` in Prometheus's text format. Only callers
on this machine get them, and only under a host that no endpoint has. Counters count from the server's
start."""
SAMPLE = {
    "name": "app",
    "endpoints": [
        {
            **dict.fromkeys((key for _, _, key in metrics.ENDPOINT.values()), 0),
            "tag": "function",
            "p50_ms": 1,
            "p99_ms": 1,
        }
    ],
    "containers": [{"function": "function", "state": "ready"}],
}


def page() -> str:
    """The page."""
    text = metrics.render([SAMPLE])
    rows = []
    for name, told in re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE):
        kind = re.search(rf"^# TYPE {name} (\S+)$", text, re.MULTILINE)
        labels = re.search(rf"^{name}{{(.+?)}} ", text, re.MULTILINE)
        assert kind
        assert labels
        names = ", ".join(f"`{label}`" for label in re.findall(r'(\w+)="', labels[1]))
        rows.append((f"`{name}`", kind[1], told, names))
    return markdown("Metrics", INTRO, table(("metric", "kind", "meaning", "labels"), rows))
