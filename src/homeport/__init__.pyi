"""The public names with their types: what type checkers and editors see of homeport, and of `modal`.

Written by hand, because decorators take any arguments when they run, so that they can say what is wrong
with them. tests/sdk/test_types.py compares this with what there is.
"""

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from typing_extensions import dataclass_transform

from homeport.sdk import exception as exception
from homeport.sdk.context import current_function_call_id as current_function_call_id
from homeport.sdk.context import current_input_id as current_input_id
from homeport.sdk.context import interact as interact
from homeport.sdk.context import is_local as is_local
from homeport.sdk.exception import Error as Error
from homeport.sdk.files.patterns import FilePatternMatcher as FilePatternMatcher
from homeport.sdk.objects.call import FunctionCall as FunctionCall
from homeport.sdk.objects.dict import Dict as Dict
from homeport.sdk.objects.environment import Environment as Environment
from homeport.sdk.objects.image import Image as Image
from homeport.sdk.objects.pending import Client as Client
from homeport.sdk.objects.pending import CloudBucketMount as CloudBucketMount
from homeport.sdk.objects.pending import Cluster as Cluster
from homeport.sdk.objects.pending import NetworkFileSystem as NetworkFileSystem
from homeport.sdk.objects.pending import Proxy as Proxy
from homeport.sdk.objects.pending import Sandbox as Sandbox
from homeport.sdk.objects.pending import Workspace as Workspace
from homeport.sdk.objects.queue import Queue as Queue
from homeport.sdk.objects.resources import Cron as Cron
from homeport.sdk.objects.resources import Period as Period
from homeport.sdk.objects.resources import Retries as Retries
from homeport.sdk.objects.secret import Secret as Secret
from homeport.sdk.objects.server import Server as Server
from homeport.sdk.objects.tunnel import Tunnel as Tunnel
from homeport.sdk.objects.tunnel import forward as forward
from homeport.sdk.objects.volume import Volume as Volume

__version__: str

__all__ = [
    "__version__",
    "App",
    "Client",
    "CloudBucketMount",
    "Cls",
    "Cluster",
    "Cron",
    "Dict",
    "Environment",
    "Error",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "NetworkFileSystem",
    "Period",
    "Proxy",
    "Queue",
    "Retries",
    "Sandbox",
    "Secret",
    "Server",
    "Tunnel",
    "Volume",
    "Workspace",
    "asgi_app",
    "batched",
    "clustered",
    "concurrent",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exit",
    "fastapi_endpoint",
    "forward",
    "interact",
    "is_local",
    "method",
    "parameter",
    "sessioned",
    "web_endpoint",
    "web_server",
    "wsgi_app",
]

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)  # what a call gives, awaited
_Raw_co = TypeVar(
    "_Raw_co", covariant=True
)  # what the function itself returns: a coroutine perhaps
_R = TypeVar("_R")
_T = TypeVar("_T")
_Class = TypeVar("_Class", bound=type)
_Callable = TypeVar("_Callable", bound=Callable[..., Any])

_Volumes: TypeAlias = Mapping[str | PurePosixPath, Volume | CloudBucketMount]

class _Remote(Protocol[_P, _R_co]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    async def aio(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

class _Spawn(Protocol[_P]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> FunctionCall: ...
    async def aio(self, *args: _P.args, **kwargs: _P.kwargs) -> FunctionCall: ...

class _SpawnMap(Protocol):
    def __call__(
        self, *iterables: Iterable[Any], kwargs: Mapping[str, Any] | None = None
    ) -> None: ...
    async def aio(
        self, *iterables: Iterable[Any], kwargs: Mapping[str, Any] | None = None
    ) -> None: ...

class _RemoteGen(Protocol[_P]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[Any]: ...
    def aio(self, *args: _P.args, **kwargs: _P.kwargs) -> AsyncIterator[Any]: ...

class _Map(Protocol[_R_co]):
    def __call__(
        self,
        *iterables: Iterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,
    ) -> Iterator[_R_co]: ...
    def aio(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,
    ) -> AsyncIterator[_R_co]: ...

class _StarMap(Protocol[_R_co]):
    def __call__(
        self,
        items: Iterable[Iterable[Any]],
        *,
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,
    ) -> Iterator[_R_co]: ...
    def aio(
        self,
        items: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
        *,
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,
    ) -> AsyncIterator[_R_co]: ...

class _ForEach(Protocol):
    def __call__(
        self,
        *iterables: Iterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        ignore_exceptions: bool = False,
    ) -> None: ...
    async def aio(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        ignore_exceptions: bool = False,
    ) -> None: ...

class Function(Generic[_P, _R_co, _Raw_co]):
    """A function of an app: call it with `.remote()` in a container of its own, with `.local()` here, or by its URL."""

    @property
    def app(self) -> App: ...
    def local(self, *args: _P.args, **kwargs: _P.kwargs) -> _Raw_co:
        """Call the function in this process."""

    @property
    def remote(self) -> _Remote[_P, _R_co]:
        """Call the function in one of its containers, and return what it returns."""

    @property
    def remote_gen(self) -> _RemoteGen[_P]:
        """Call a generator in one of its containers, and yield its values as they come."""

    @property
    def map(self) -> _Map[_R_co]:
        """Call the function for each item of the iterables, many at once, and yield the results."""

    @property
    def starmap(self) -> _StarMap[_R_co]:
        """Call the function for each item, which is the arguments of one call; yield the results."""

    @property
    def for_each(self) -> _ForEach:
        """Call the function for each item of the iterables, and return nothing."""

    @property
    def get_current_stats(self) -> Any:
        """Return how many calls wait and run, and how many containers there are."""

    @property
    def update_autoscaler(self) -> Any:
        """Change how many containers the function has, until the next deploy."""

    @property
    def spawn(self) -> _Spawn[_P]:
        """Call the function without waiting for it."""

    @property
    def spawn_map(self) -> _SpawnMap:
        """Call the function for each item of the iterables without waiting for it."""

    def get_raw_f(self) -> Callable[_P, _Raw_co]:
        """The user's own function."""

    def get_web_url(self) -> str | None:
        """Return the URL of a web function, in a container; None for other functions."""

    @staticmethod
    def from_name(
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Function[..., Any, Any]: ...

class _Method(Generic[_P, _R_co, _Raw_co]):
    """A method under `@modal.method()`, of one object."""

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _Raw_co: ...
    def local(self, *args: _P.args, **kwargs: _P.kwargs) -> _Raw_co: ...
    @property
    def remote(self) -> _Remote[_P, _R_co]: ...
    @property
    def remote_gen(self) -> _RemoteGen[_P]: ...
    @property
    def map(self) -> _Map[_R_co]: ...
    @property
    def starmap(self) -> _StarMap[_R_co]: ...
    @property
    def for_each(self) -> _ForEach: ...
    @property
    def spawn(self) -> _Spawn[_P]: ...
    @property
    def spawn_map(self) -> _SpawnMap: ...

class _MethodOfClass(Generic[_P, _R_co, _Raw_co]):
    def __get__(
        self, instance: object, owner: type | None = None
    ) -> _Method[_P, _R_co, _Raw_co]: ...

class _FunctionDecorator(Protocol):
    @overload
    def __call__(
        self, target: Callable[_P, Coroutine[Any, Any, _R]], /
    ) -> Function[_P, _R, Coroutine[Any, Any, _R]]: ...
    @overload
    def __call__(self, target: Callable[_P, _R], /) -> Function[_P, _R, _R]: ...

class _MethodDecorator(Protocol):
    @overload
    def __call__(
        self, target: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]], /
    ) -> _MethodOfClass[_P, _R, Coroutine[Any, Any, _R]]: ...
    @overload
    def __call__(
        self, target: Callable[Concatenate[Any, _P], _R], /
    ) -> _MethodOfClass[_P, _R, _R]: ...

class _Same(Protocol):
    """A decorator that marks a function and leaves it as it is."""

    def __call__(self, target: _Callable, /) -> _Callable: ...

class _SameOfAny(Protocol):
    def __call__(self, target: _T, /) -> _T: ...

class _LocalEntrypoint(Generic[_P, _R_co]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

class _LocalEntrypointDecorator(Protocol):
    def __call__(self, target: Callable[_P, _R], /) -> _LocalEntrypoint[_P, _R]: ...

def parameter(*, default: Any = ..., init: bool = True) -> Any:
    """Declare a parameter of a class: `size: int = modal.parameter(default=1)`.

    Types: `int`, `str`, `bytes`, `bool`. The query string of a URL has the values, `?size=2`, and each set of
    values has containers of its own.
    """

class Cls:
    """What `@app.cls()` makes of a class. To call it gives an object with one set of parameters."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    @staticmethod
    def from_name(
        app_name: str, name: str, *, environment_name: str | None = None, client: Any = None
    ) -> Cls: ...
    def __getattr__(self, name: str) -> Any: ...

class App:
    """A named collection of functions and classes that are deployed together.

    A script makes one at its top. Its name is the name of the deployment, and part of each URL.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: dict[str, str] | None = None,
        image: Image | None = None,
        secrets: Sequence[Secret] = (),
        volumes: _Volumes | None = None,
        include_source: bool = True,
    ) -> None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def app_id(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...
    @property
    def registered_functions(self) -> dict[str, Function[..., Any, Any]]: ...
    @property
    def registered_classes(self) -> dict[str, Cls]: ...
    @property
    def registered_entrypoints(self) -> dict[str, _LocalEntrypoint[..., Any]]: ...
    @property
    def registered_web_endpoints(self) -> list[str]: ...
    def function(
        self,
        *,
        image: Image | None = None,
        schedule: Cron | Period | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | Sequence[str] | None = None,
        serialized: bool = False,
        network_file_systems: Mapping[str | PurePosixPath, NetworkFileSystem] = ...,
        volumes: _Volumes = ...,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        proxy: Proxy | None = None,
        retries: int | Retries | None = None,
        timeout: float = 300,
        startup_timeout: float | None = None,
        name: str | None = None,
        is_generator: bool | None = None,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        routing_region: str | None = None,
        nonpreemptible: bool = False,
        enable_memory_snapshot: bool = False,
        block_network: bool = False,
        restrict_modal_access: bool = False,
        single_use_containers: bool = False,
        i6pn: bool | None = None,
        include_source: bool | None = None,
        experimental_options: Mapping[str, Any] | None = None,
        _experimental_restrict_output: bool = False,
        max_inputs: int | None = None,
    ) -> _FunctionDecorator:
        """Declare a function."""

    @dataclass_transform(field_specifiers=(parameter,), kw_only_default=True)
    def cls(
        self,
        *,
        image: Image | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | Sequence[str] | None = None,
        serialized: bool = False,
        network_file_systems: Mapping[str | PurePosixPath, NetworkFileSystem] = ...,
        volumes: _Volumes = ...,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        proxy: Proxy | None = None,
        retries: int | Retries | None = None,
        timeout: float = 300,
        startup_timeout: float | None = None,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        routing_region: str | None = None,
        nonpreemptible: bool = False,
        enable_memory_snapshot: bool = False,
        block_network: bool = False,
        restrict_modal_access: bool = False,
        single_use_containers: bool = False,
        i6pn: bool | None = None,
        include_source: bool | None = None,
        experimental_options: Mapping[str, Any] | None = None,
        _experimental_restrict_output: bool = False,
        max_inputs: int | None = None,
    ) -> Callable[[_Class], _Class]:
        """Declare a class."""

    def server(
        self,
        *,
        image: Image | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | Sequence[str] | None = None,
        serialized: bool = False,
        volumes: _Volumes = ...,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        routing_region: str | None = None,
        cloud: str | None = None,
        nonpreemptible: bool = False,
        proxy: Proxy | None = None,
        i6pn: bool | None = None,
        enable_memory_snapshot: bool = False,
        include_source: bool | None = None,
        experimental_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        port: int = 8000,
        unauthenticated: bool = False,
        target_concurrency: float | None = None,
        max_concurrency: int | None = None,
        startup_timeout: float = 30.0,
        exit_grace_period: float | None = None,
        h2_enabled: bool = False,
        scaleup_window: float | None = None,
        compute_region: str | Sequence[str] | None = None,
    ) -> Callable[[type], Server]:
        """Declare a class whose enter hooks start an HTTP server."""

    def local_entrypoint(self, *, name: str | None = None) -> _LocalEntrypointDecorator:
        """Declare a function for `homeport run`, which runs it here and not in a container."""

    def include(self, other_app: App, inherit_tags: bool = True) -> App:
        """Add another app's functions and classes to this app; returns this app."""

    @staticmethod
    def lookup(name: str, **options: Any) -> App: ...
    def run(self, **options: Any) -> AbstractContextManager[App]: ...
    def deploy(self, **options: Any) -> App: ...

def fastapi_endpoint(
    *,
    method: str = "GET",
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
) -> _Same:
    """Make a function the one route of a FastAPI app, at `/`."""

def asgi_app(
    *,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> _Same:
    """Serve the ASGI app that the function returns; it is called once per container."""

def wsgi_app(
    *,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> _Same:
    """Serve the WSGI app that the function returns; it is called once per container."""

def web_server(
    port: int,
    *,
    startup_timeout: float = 5.0,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> _Same:
    """Serve a program that listens on `port`. The function starts it, once per container, and returns."""

def web_endpoint(*args: Any, **kwargs: Any) -> _Same:
    """Gone: it is `fastapi_endpoint` now."""

def method(*, is_generator: bool | None = None) -> _MethodDecorator:
    """Declare a method that other code calls by `.remote()`."""

def enter(*, snap: bool = False) -> _Same:
    """Run a method when a container starts, before its first request.

    With `snap=True` and `enable_memory_snapshot=True` on the class, it runs once, and new containers start
    from the state after it.
    """

def exit() -> _Same:
    """Run a method when a container ends, after its last request."""

def batched(*, max_batch_size: int, wait_ms: int) -> _Same:
    """Declare a function that takes many inputs in one call: lists of at most `max_batch_size`.

    The call is made when there are so many inputs, or `wait_ms` after the first. The function returns a list
    with a result for each.
    """

def concurrent(*, max_inputs: int, target_inputs: int | None = None) -> _SameOfAny:
    """Let a container take `max_inputs` requests at once, 1 to 1000; without it, one."""

def enable_output(show_progress: bool = True) -> AbstractContextManager[None]:
    """Do nothing: the command line shows what there is to show."""

def clustered(*args: Any, **kwargs: Any) -> Any: ...
def sessioned(*args: Any, **kwargs: Any) -> Any: ...
