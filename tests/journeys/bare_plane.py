"""A control plane as a process, to kill: its store, the port for nodes and the control loop, with a fake ingress.

`python -m tests.journeys.bare_plane HOME ARRIVE_S` keeps two containers of one function. It writes lines of JSON: first a token
and the port, then, on each change, the containers: `[id, node, state]` each.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from homeport.contract.container import Container
from homeport.contract.manifest import FunctionSpec
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.machines import Listens, Machines
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler
from homeport.state import nodes as rows
from homeport.state import schema, urls
from homeport.state.database import Database
from tests.fakes import FakeIngress, NoSecrets

KEY = PoolKey("app", "f", "rv-1")


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


async def main(home: Path, arrive_s: float) -> None:
    database = Database(urls.of("", home))
    schema.prepare(database)
    nodes, pools = Nodes([], on_line=lambda _line: None), Pools()
    ingress = FakeIngress()
    machines = Machines(home, nodes, rows.Nodes(database), ingress, "127.0.0.0/8")
    loop = Reconciler(
        pools,
        nodes,
        ingress,
        NoSecrets(),
        key=lambda _scope: "",
        say=lambda line: print(line.text, file=sys.stderr, flush=True),
        started=lambda _start: None,
    )

    def changed(container: Container) -> None:
        loop.changed(container)
        there = [(c.id, c.node, c.state.value) for c in nodes.containers()]
        say(containers=there, changed=container.id)

    nodes.watch(changed)
    await machines.open()
    token, listens = await machines.token(Listens(host="127.0.0.1", port=0))
    say(token=token, port=listens.port)
    function = FunctionSpec(name="f", module="m", qualname="f", min_containers=2)
    source = str(home / "revisions" / "rv-1")
    pools.add(Pool(key=KEY, function=function, source=source, owner=Owner.app(MAIN, "app")))
    await nodes.arrived(arrive_s)
    await loop.adopt()
    loop.open()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
