"""The two roles in memory, on whatever clock the event loop has.

`calls` records every call. `fault(call, what, when)` is awaited `before` and `after` each one
takes effect: it may raise, to break the call there, or wait.
"""

from tests.fakes.calls import no_fault
from tests.fakes.ingress import FakeIngress
from tests.fakes.node import FakeNode
from tests.fakes.secrets import NoSecrets

__all__ = ["FakeIngress", "FakeNode", "NoSecrets", "no_fault"]
