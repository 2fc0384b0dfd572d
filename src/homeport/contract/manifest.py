"""The manifest: all that a script declares. `sdk/declare/manifest` makes it, `control` stores it as a revision."""

import enum
from dataclasses import field

from homeport.contract.calls import Retries
from homeport.contract.dataclass import dataclass
from homeport.contract.image import Image
from homeport.contract.schedules import Schedule

Value = str | int | bool | bytes  # of a class parameter


class WebKind(str, enum.Enum):
    """The kinds of web functions."""

    FASTAPI = "fastapi_endpoint"
    ASGI = "asgi_app"
    WSGI = "wsgi_app"
    WEB_SERVER = "web_server"
    SERVER = "server"  # a class whose enter hooks start a program


@dataclass(frozen=True, slots=True, kw_only=True)
class WebMethod:
    """One web decorator: a function or method with a URL."""

    tag: str  # `hello`, or `Cls.method`; the default label is made of it
    attribute: str  # the method's name in the class; for a function, its own name
    kind: WebKind
    label: str | None = None
    http_method: str = "GET"  # fastapi_endpoint only
    docs: bool = False  # fastapi_endpoint only
    port: int | None = None  # web_server and server only
    #: How long the port may take to open after the code has returned.
    startup_timeout_s: float = 5.0
    requires_proxy_auth: bool = False
    custom_domains: tuple[str, ...] = ()
    where: str = ""  # `hello.py:12`


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The limits of a batch: the inputs for one call of a `@modal.batched` function."""

    size: int  # at most so many inputs
    wait_ms: int  # from the first input on, at most so long


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMethod:
    """A function or a `@modal.method` that other code calls by `.remote()`."""

    tag: str  # `hello`, or `Cls.method`
    attribute: str  # the method's name in the class; for a function, its own name
    generator: bool = False
    batch: Batch | None = None
    where: str = ""  # `hello.py:12`


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One `modal.parameter()` of a class."""

    name: str
    type: str  # `str`, `int`, `bool` or `bytes`
    required: bool
    default: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A secret in the store (`name`), or one whose values travel with the manifest.

    The control plane moves `values` into its vault before it stores a manifest.
    """

    name: str | None = None
    values: dict[str, str] | None = field(default=None, repr=False)
    required_keys: tuple[str, ...] = ()
    where: str = ""
    environment: str = ""  # that the name is of, as the script says; empty: the app's


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume in a function's containers."""

    path: str  # absolute, in the container
    name: str  # of the volume
    read_only: bool = False
    sub_path: str = ""  # the directory of the volume that is shown; empty: all of it
    create: bool = False  # a deploy makes the volume if no volume has the name
    #: The volume that the name meant at the deploy, as `<workspace>/<environment>/vo-…`; the server writes it.
    key: str = ""
    where: str = ""
    environment: str = ""  # as of a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """One `@app.function` or `@app.cls`: it answers web requests, calls, or both."""

    name: str  # `hello`, or `Cls.*`
    module: str  # as `importlib.import_module` takes it once the source tree is on the path
    qualname: str  # the object in the module: `hello`, `Cls`
    is_class: bool = False  # of `@app.cls`
    web: tuple[WebMethod, ...] = ()
    calls: tuple[CallMethod, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    image: Image = field(default_factory=Image)
    secrets: tuple[SecretRef, ...] = ()  # in order: a later one wins
    build_secrets: tuple[SecretRef, ...] = ()  # secrets for the image's steps
    volumes: tuple[VolumeMount, ...] = ()
    build_volumes: tuple[VolumeMount, ...] = ()  # volumes for the image's steps
    min_containers: int = 0  # kept without any request
    max_containers: int | None = None  # null: as many as the machines have room for
    buffer_containers: int = 0  # idle ones beside the busy ones, while there are requests
    scaledown_window_s: float = 60.0  # how long a container stays without a request
    max_inputs: int = 1  # requests inside one container at once
    #: With more requests than this in each, another container starts; null: `max_inputs`.
    target_inputs: int | None = None
    single_use: bool = False  # a container ends after one input
    timeout_s: float = 300.0  # one request, its streamed response included
    startup_timeout_s: float = 300.0  # imports, enter hooks, lifespan
    cpu: tuple[float, float | None] | None = None  # cores: request, hard limit
    memory_mib: tuple[int, int | None] | None = None  # request, hard limit
    ephemeral_disk_mib: int | None = None  # for files outside volumes
    gpu: tuple[str, ...] = ()  # in order of preference
    region: tuple[str, ...] = ()  # of the machines that may run it; empty: any
    retries: Retries | None = None  # of calls
    schedule: Schedule | None = None  # when it runs by itself, once it is deployed
    enable_memory_snapshot: bool = False  # containers begin after the imports and early hooks
    #: Seconds for running requests when a container has to end; null: `timeout_s`.
    exit_grace_s: float | None = None
    block_network: bool = False  # no network at all; requests to its URL still reach it
    restrict_modal_access: bool = False  # it may not call other functions
    where: str = ""  # `hello.py:10`

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of its programs, which only one container at a time can use; none for other functions."""
        return tuple(web.port for web in self.web if web.port is not None)

    @property
    def drain_s(self) -> float:
        """How long running requests may continue when other containers take over."""
        return self.timeout_s if self.exit_grace_s is None else self.exit_grace_s

    @property
    def has_several(self) -> bool:
        """True if a request has to say which method it is for."""
        return len(self.web) + len(self.calls) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the revision's source tree."""

    path: str  # relative to the tree's root, or absolute where an image step put it
    sha256: str
    size_bytes: int
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The complete input of a deploy; files are named by hash, and uploaded separately."""

    app_name: str
    functions: tuple[FunctionSpec, ...] = ()
    files: tuple[SourceFile, ...] = ()
    build_files: tuple[SourceFile, ...] = ()  # what the images' steps read; the path is the hash
    tags: dict[str, str] = field(default_factory=dict)
    script: str = ""  # as the user typed it, for messages
    python_version: str = ""  # of the interpreter that loaded the script
