"""The lines between a command and the process that loads a script (sdk/declare/__main__.py and run.py).

The loader writes `Answer`s. A warm loader first reads `Warm`, and then `Load` again and again. The loader of
`homeport run` reads `Go` after its answer. Both sides are the same homeport, unless it is replaced at this very moment.
"""

from dataclasses import field

from homeport.contract.api.answers import Fault
from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Import these ahead."""

    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load a script: a warm loader does so in a fork, any other one itself."""

    ref: str  # `script.py`, `script.py::app`, or a module
    module: bool = False  # `ref` is a module's dotted name
    name: str = ""  # the app's name; empty: the script says it


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """Run the local entrypoint or the function now: the app's functions can be called."""

    socket: (
        str  # the path of the ingress's socket for calls, or the URL of another machine's server
    )
    app: str
    scope: str  # the session; empty: the app has no function that could be called
    environment: str = "main"
    key: str = field(default="", repr=False)  # of the environment
    token: str = field(default="", repr=False)  # of that other server
    detach: bool = False  # a function that is run continues if this process ends
    urls: dict[str, str] = field(default_factory=dict)  # of its web functions, by tag
    local_urls: dict[str, str] = field(default_factory=dict)  # the same by ports of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A script's manifest and files."""

    manifest: Manifest
    sources: dict[str, str]  # SHA-256 in hex -> path
    warnings: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # installed modules that it imports, without those imported ahead
    unlike: tuple[str, ...] = ()  # modules imported ahead that differ from the script's own imports

    @property
    def name(self) -> str:
        """The app's."""
        return self.manifest.app_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One line of a loader. It has one of the first six; with a script's outcome also `watch`."""

    declared: Declared | None = None
    error: Fault | None = None  # why the script cannot be loaded
    ready: bool = False  # a warm loader has imported its modules
    unsafe: str = ""  # a module after whose import a warm loader cannot fork
    pid: int = 0  # the fork that loads the script from now on
    code: int | None = None  # the exit code of that fork, which has ended; of `run`, after its help
    watch: dict[str, tuple[int, ...]] = field(
        default_factory=dict
    )  # path -> state (sdk/watched.py)
