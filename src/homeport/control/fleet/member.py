"""A container of a pool, as the control loop sees it: its stage in the ingress, and what it holds."""

import enum

from homeport.contract.dataclass import dataclass


class Stage(enum.StrEnum):
    """A container's state in the ingress."""

    STARTING = "starting"
    ATTACHING = "attaching"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Member:
    """A container of a pool."""

    id: str
    stage: Stage = Stage.STARTING
    begun_at: float = 0.0  # when the start was decided, in seconds since the epoch
    parked_s: float = 0.0  # how long the oldest request that needs it had been parked then
    before: bool = False  # True if it was already serving when its pool was demoted
    held: int = 0  # slots with work that continues after its response; they get no new request
    cuts: int = 0  # responses that it has cut because they were not read, by the node's last report
    deadline: float | None = None  # draining: requests that still run then are cut (monotonic)
    missed: bool = False  # True if the node's last list did not have it
    #: Its machine does not answer: others take its place until it does, or is given up.
    away: bool = False
    #: Programs of the user, such as a shell: the container stays as long as they run.
    programs: int = 0


@dataclass(slots=True, kw_only=True)
class GivenUp:
    """The numbers of requests that a container, which the user stopped, has answered."""

    before: int  # by the last pass before the user stopped it
    served: int  # by now

    @property
    def after(self) -> int:
        """The requests that do not count as demand."""
        return self.served - self.before
