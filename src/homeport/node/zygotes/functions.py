"""Which pools share a function zygote: those of one function whose image, variables and imports are alike."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from homeport.contract.container import Launch, StartOrder
from homeport.contract.dataclass import dataclass
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.node.images.made import Made
from homeport.node.zygotes import likeness
from homeport.node.zygotes.learned import Learned, tidy
from homeport.node.zygotes.zygote import Zygote


@dataclass(slots=True)
class Function:
    """The zygote of one function, for all revisions that are alike (likeness.identity)."""

    launch: Launch  # of no container, and the latest revision's, whose files are there
    image: Made
    environ: dict[str, str]
    learned: Learned
    current: Zygote | None = None
    starting: "asyncio.Task[None] | None" = None
    pools: dict[PoolKey, Launch] = dataclasses.field(default_factory=dict)  # of no container
    tried: frozenset[str] = frozenset()  # the modules that the last one was asked to import

    def drop(self) -> None:
        """Let the next zygote be asked to import everything."""
        self.current, self.tried = None, frozenset()


class Functions:
    """The functions of this node, by the pools that need them."""

    def __init__(self, root: Path, *, retire: Callable[[Zygote], None]) -> None:
        self._root = root  # the directory of `Learned`
        self._retire = retire
        self._alike: dict[str, Function] = {}  # by identity
        self._of_pool: dict[PoolKey, Function] = {}
        tidy(root)

    def all(self) -> list[Function]:
        """Return every function, whether its zygote runs or not."""
        return [*self._alike.values()]

    def get(self, pool: PoolKey) -> Function | None:
        """Return the function of a pool, if one of its containers was asked for."""
        return self._of_pool.get(pool)

    def of(self, launch: Launch, image: Made, environ: dict[str, str]) -> Function:
        """Return the function of a container, which its pool has from now on."""
        order = launch.order
        learned = self._learned(order, image)
        key = likeness.identity(order, image, environ, learned.avoid(order.pool.revision))
        function, nobody = self._alike.get(key), likeness.nobody(launch)
        if function is None:
            shared = likeness.shared(order.function, environ)
            function = self._alike[key] = Function(nobody, image, shared, learned)
        function.launch, function.image = nobody, image
        if self._of_pool.get(order.pool) is not function:
            # A variable may have changed, for example a secret, which the imports may have read.
            self.forget(order.pool)
        self._of_pool[order.pool], function.pools[order.pool] = function, nobody
        return function

    def _learned(self, order: StartOrder, image: Made) -> Learned:
        app = order.pool.app if order.within == MAIN else f"{order.within}/{order.pool.app}"
        path = Learned.place(self._root, image.key, app, order.pool.function)
        records = (f.learned for f in self._alike.values() if f.learned.path == path)
        return next(records, None) or Learned.of(path)

    def forget(self, pool: PoolKey) -> None:
        """End the pool's function zygote, unless other pools have it too."""
        if (function := self._of_pool.pop(pool, None)) is not None:
            del function.pools[pool]
            if not function.pools:
                self._end(function)
                self._alike = {k: f for k, f in self._alike.items() if f is not function}

    def _end(self, function: Function) -> None:
        if function.starting is not None:
            function.starting.cancel()
        if function.current is not None:
            self._retire(function.current)
        function.drop()  # a container that waits for the base zygote looks here next
