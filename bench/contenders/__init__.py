"""Who is measured, in the order of the tables; direct uvicorn is what the others are divided by."""

from bench.contenders.base import Contender
from bench.contenders.bento import Bento
from bench.contenders.granian import Granian
from bench.contenders.home import Homeport
from bench.contenders.lit import Lit
from bench.contenders.ray_serve import RayServe, RayServeHaproxy
from bench.contenders.uvicorn import Uvicorn


def everyone() -> list[Contender]:
    """New ones, not installed yet."""
    return [Uvicorn(), Granian(), Homeport(), RayServe(), RayServeHaproxy(), Bento(), Lit()]
