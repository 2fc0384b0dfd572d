"""`Image`: a record of all builder calls; the node carries them out.

Anything that a step reads on the user's machine travels in its arguments: the text of a requirements file, the
hashes of copied files, the hash of a function's source. So an image's key changes with their content.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeport.contract.image import Image as ImageSpec
from homeport.contract.image import Step
from homeport.contract.manifest import VolumeMount
from homeport.sdk import context, gone, location, watched
from homeport.sdk.exception import InvalidError, MisuseError, UnimplementedError
from homeport.sdk.files import dockerfiles, local
from homeport.sdk.gone import Old
from homeport.sdk.objects import image_given
from homeport.sdk.objects import image_options as options_of
from homeport.sdk.objects.secret import Secret

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Image(metaclass=Old):
    """The packages and files that a container sees. Each call returns a new image.

    Steps that install packages also take `index_url`, `extra_index_url`, `find_links`, `pre` and
    `extra_options` (words for uv). Steps that build something take `env`, `secrets` and `force_build`.

    One class, because each of Modal's builder calls is one method.
    """

    def __init__(
        self,
        steps: tuple[Step, ...] = (),
        secrets: tuple[Secret, ...] = (),
        volumes: tuple[VolumeMount, ...] = (),
    ) -> None:
        self._steps = steps
        self._secrets = secrets
        self._volumes = volumes

    @property
    def spec(self) -> ImageSpec:
        """The manifest's description of the image."""
        return ImageSpec(steps=self._steps)

    @property
    def build_secrets(self) -> tuple[Secret, ...]:
        """The secrets of its steps, in order; the argument `secrets` of a step has their positions."""
        return self._secrets

    @property
    def build_volumes(self) -> tuple[VolumeMount, ...]:
        """The volumes of its steps, in order; the argument `volumes` of a step has their positions."""
        return self._volumes

    # the first step

    @staticmethod
    def debian_slim(python_version: str | None = None, force_build: bool = False) -> "Image":
        """Begin with Python and no packages; `python_version="3.12"` chooses another Python."""
        if python_version is not None and not isinstance(python_version, str):
            raise InvalidError(
                f'`python_version` must be a string such as "3.11", not {python_version!r}'
            )
        return Image().with_step(
            "debian_slim", python_version=python_version, force_build=force_build
        )

    @staticmethod
    def from_registry(
        tag: str, secret: Secret | None = None, **options: "Unpack[options_of.Registry]"
    ) -> "Image":
        """Begin with a container image."""
        return Image().with_step("from_registry", options, tag=tag, secret=secret)

    @staticmethod
    def from_gcp_artifact_registry(
        tag: str, secret: Secret | None = None, **options: "Unpack[options_of.Registry]"
    ) -> "Image":
        """Begin with a container image of Google's registry."""
        return Image().with_step("from_gcp_artifact_registry", options, tag=tag, secret=secret)

    @staticmethod
    def from_aws_ecr(
        tag: str, secret: Secret | None = None, **options: "Unpack[options_of.Registry]"
    ) -> "Image":
        """Begin with a container image of Amazon's registry."""
        return Image().with_step("from_aws_ecr", options, tag=tag, secret=secret)

    @staticmethod
    def from_dockerfile(path: Any, **options: "Unpack[options_of.Dockerfile]") -> "Image":
        """Begin with the image that a Dockerfile describes."""
        text, settings = local.text(path), {**options}
        read = dockerfiles.read("from_dockerfile", text, Path(path), **dockerfiles.take(settings))
        return Image().with_step("from_dockerfile", settings, text=text, **read)

    @staticmethod
    def from_scratch(force_build: bool = False) -> "Image":
        """Begin with nothing."""
        return Image().with_step("from_scratch", force_build=force_build)

    @staticmethod
    def micromamba(python_version: str | None = None, force_build: bool = False) -> "Image":
        """Begin with Python from micromamba."""
        return Image().with_step(
            "micromamba", python_version=python_version, force_build=force_build
        )

    @staticmethod
    def from_id(image_id: str, client: Any = None) -> "Image":  # noqa: ARG004
        """Begin with an image that was built before."""
        return Image().with_step("from_id", image_id=image_id)

    @staticmethod
    def from_name(name: str, **options: "Unpack[options_of.Published]") -> "Image":
        """Begin with an image that was published."""
        return Image().with_step("from_name", options, name=name)

    # packages

    def pip_install(self, *packages: Any, **options: "Unpack[options_of.Install]") -> "Image":
        """Install packages, by the names that pip knows."""
        names = options_of.strings("pip_install", packages)
        return self.with_step("pip_install", options, packages=names) if names else self

    def uv_pip_install(
        self,
        *packages: Any,
        requirements: Sequence[str] | None = None,
        **options: "Unpack[options_of.Install]",
    ) -> "Image":
        """Install packages, or those that requirements files list."""
        names = options_of.strings("uv_pip_install", packages)
        if not names and not requirements:
            return self
        listed = local.requirements("uv_pip_install", requirements or ())
        return self.with_step("uv_pip_install", options, packages=names, **listed)

    def pip_install_from_requirements(
        self,
        requirements_txt: str,
        find_links: str | None = None,
        **options: "Unpack[options_of.Fetch]",
    ) -> "Image":
        """Install the packages of a requirements file."""
        listed = local.requirements("pip_install_from_requirements", [requirements_txt])
        return self.with_step(
            "pip_install_from_requirements", options, find_links=find_links, **listed
        )

    def pip_install_from_pyproject(
        self,
        pyproject_toml: str,
        optional_dependencies: Sequence[str] = (),
        **options: "Unpack[options_of.Install]",
    ) -> "Image":
        """Install the dependencies of a `pyproject.toml`, not the project."""
        return self.with_step(
            "pip_install_from_pyproject",
            options,
            pyproject=local.text(pyproject_toml),
            optional_dependencies=list(optional_dependencies),
        )

    def pip_install_private_repos(
        self, *repositories: str, git_user: str, **options: "Unpack[options_of.Install]"
    ) -> "Image":
        """Install packages of private repositories, such as `github.com/me/tool@v1`.

        A secret of the step has the token: `GITHUB_TOKEN` or `GITLAB_TOKEN`.
        """
        options_of.check_repositories(repositories, options.get("secrets"))
        return self.with_step(
            "pip_install_private_repos",
            options,
            repositories=list(repositories),
            git_user=git_user,
        )

    def poetry_install_from_file(
        self,
        poetry_pyproject_toml: str,
        poetry_lockfile: str | None = None,
        *,
        ignore_lockfile: bool = False,
        **options: "Unpack[options_of.Poetry]",
    ) -> "Image":
        """Install the packages that `pyproject.toml` and `poetry.lock` list."""
        beside = Path(poetry_pyproject_toml).with_name("poetry.lock")
        if not (ignore_lockfile or poetry_lockfile or beside.exists()) and context.is_local():
            raise InvalidError(
                f"there is no `{beside}`: write it with `poetry lock`, name another file with "
                "`poetry_lockfile=`, or let Poetry choose the versions with `ignore_lockfile=True`"
            )
        lockfile = None if ignore_lockfile else local.text(poetry_lockfile or beside)
        return self.with_step(
            "poetry_install_from_file",
            options,
            pyproject=local.text(poetry_pyproject_toml),
            lockfile=lockfile,
        )

    def uv_sync(
        self,
        uv_project_dir: str = "./",
        *,
        frozen: bool = True,
        **options: "Unpack[options_of.UvSync]",
    ) -> "Image":
        """Install the packages that `pyproject.toml` and `uv.lock` list; also takes `groups` and `extras`."""
        project = Path(uv_project_dir).expanduser()
        lock = project / "uv.lock"
        watched.add(lock)  # it may be written later
        return self.with_step(
            "uv_sync",
            options,
            pyproject=local.text(project / "pyproject.toml"),
            lockfile=local.text(lock) if lock.exists() else None,
            frozen=frozen,
        )

    def micromamba_install(
        self, *packages: Any, **options: "Unpack[options_of.Micromamba]"
    ) -> "Image":
        """Install packages of conda."""
        names, settings = options_of.strings("micromamba_install", packages), {**options}
        spec = settings.pop("spec_file", None)
        text = local.text(spec) if spec else None
        return self.with_step("micromamba_install", settings, packages=names, spec_file_text=text)

    def apt_install(self, *packages: Any, **options: "Unpack[options_of.Build]") -> "Image":
        """Install Debian packages."""
        names = options_of.strings("apt_install", packages)
        return self.with_step("apt_install", options, packages=names) if names else self

    # commands

    def run_commands(self, *commands: Any, **options: "Unpack[options_of.Commands]") -> "Image":
        """Run shell commands in the image."""
        lines = options_of.strings("run_commands", commands)
        return self.with_step("run_commands", options, commands=lines) if lines else self

    def dockerfile_commands(
        self, *commands: Any, **options: "Unpack[options_of.Dockerfile]"
    ) -> "Image":
        """Run lines of a Dockerfile."""
        lines = options_of.strings("dockerfile_commands", commands)
        if not lines:
            return self
        settings = {**options}
        read = dockerfiles.read(
            "dockerfile_commands", "\n".join(lines), **dockerfiles.take(settings)
        )
        return self.with_step("dockerfile_commands", settings, commands=lines, **read)

    def run_function(
        self,
        raw_f: Callable[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: int | None = 3600,
        **options: "Unpack[options_of.RunFunction]",
    ) -> "Image":
        """Run a Python function once, when the image is built, such as to download a model."""
        step_arguments = image_given.function(raw_f, args, kwargs)
        return self.with_step("run_function", options, timeout=timeout, **step_arguments)

    # configuration

    def env(self, vars: dict[str, str]) -> "Image":  # noqa: A002 - the original's name
        """Set environment variables, for later steps and for containers."""
        if not isinstance(vars, dict) or not all(
            isinstance(k, str) and isinstance(v, str) for k, v in vars.items()
        ):
            raise InvalidError("`env` takes a dict[str, str]")
        return self.with_step("env", vars=dict(vars))

    def workdir(self, path: Any) -> "Image":
        """Set the working directory, for later steps and for containers."""
        return self.with_step("workdir", path=str(path))

    def entrypoint(self, entrypoint_commands: list[str]) -> "Image":
        """Start the container with another program."""
        return self.with_step(
            "entrypoint", commands=options_of.words("entrypoint", entrypoint_commands)
        )

    def shell(self, shell_commands: list[str]) -> "Image":
        """Set the shell of later `run_commands`."""
        return self.with_step("shell", commands=options_of.words("shell", shell_commands))

    def cmd(self, cmd: list[str]) -> "Image":
        """Set a default command; it has no effect here."""
        return self.with_step("cmd", commands=options_of.words("cmd", cmd))

    # local files

    def add_local_file(self, local_path: Any, remote_path: str, *, copy: bool = False) -> "Image":
        """Add a local file. With `copy=True` later steps see it too."""
        remote = local.absolute("add_local_file", remote_path)
        if remote.endswith("/"):
            remote += Path(local_path).name
        path = local.existing(local_path)
        files = local.copied_file(path, remote) if copy else None
        return self.with_step(
            "add_local_file", local_path=path, remote_path=remote, copy=copy, files=files
        )

    def add_local_dir(
        self, local_path: Any, remote_path: str, *, copy: bool = False, ignore: Any = ()
    ) -> "Image":
        """Add a local directory. `ignore` takes `.dockerignore` patterns, or a function of a path."""
        base = local.directory("add_local_dir", local.existing(local_path))
        remote = local.absolute("add_local_dir", remote_path)
        ignored = local.ignored("add_local_dir", base, ignore)
        return self.with_step(
            "add_local_dir",
            local_path=str(base),
            remote_path=remote,
            copy=copy,
            ignore=ignored,
            files=local.copied_directory(base, remote, ignored) if copy else None,
        )

    def add_local_python_source(
        self, *modules: str, copy: bool = False, ignore: Any = None
    ) -> "Image":
        """Add local modules, by name: their Python files. With `ignore`, all files of a package but those.

        `ignore` takes `.dockerignore` patterns, or a function of a path; both from the package's directory.
        """
        for module in modules:
            if not isinstance(module, str):
                raise InvalidError("`add_local_python_source` takes the names of modules")
        if callable(ignore) and len(modules) > 1:  # it is asked for each package's own files
            image = self
            for module in modules:
                image = image.add_local_python_source(module, copy=copy, ignore=ignore)
            return image
        patterns = local.ignored_of_modules("add_local_python_source", modules, ignore)
        whole = None if ignore is None else True
        return self.with_step(
            "add_local_python_source",
            modules=list(modules),
            copy=copy,
            ignore=patterns,
            whole=whole,
            files=local.copied_modules(modules, patterns, whole=whole) if copy else None,
        )

    def __getattr__(self, name: str) -> Any:
        gone.on_instance(self, name)
        raise AttributeError(f"'Image' object has no attribute '{name}'")

    # how a script uses an image

    def pipe(self, func: Callable[..., "Image"], *args: Any, **kwargs: Any) -> "Image":
        """Return `func(self, …)`."""
        return func(self, *args, **kwargs)

    @contextlib.contextmanager
    def imports(self) -> Iterator[None]:
        """Import packages that only the container has: outside of it, an ImportError in the block is ignored."""
        from homeport.sdk import context

        try:
            yield
        except ImportError:
            if context.runs_in(self.spec):
                raise

    def build(self, app: Any = None) -> "Image":  # noqa: ARG002
        """Raise an error: a deploy builds the image."""
        raise UnimplementedError("`Image.build` is not there yet in homeport: a deploy builds it")

    def publish(self, name: str) -> None:  # noqa: ARG002
        """Raise an error: homeport does not have this yet."""
        raise UnimplementedError("`Image.publish` is not there yet in homeport")

    def __repr__(self) -> str:
        return "Image(" + ".".join(step.name for step in self._steps) + ")"

    def with_step(
        self, step: str, options: Mapping[str, Any] | None = None, /, **args: Any
    ) -> "Image":
        """Return the image with one more builder call; `InvalidError` after files that are only mounted."""
        if not isinstance(self, Image):
            raise MisuseError(
                f"`{step}` must be called on an instance: `modal.Image.debian_slim().{step}(…)`"
            )
        options_of.check(step, options or {})
        image_given.check_order(step, self._steps)
        args |= options or {}
        secrets = image_given.secrets(step, args)
        volumes = image_given.volumes(step, args)
        manifest_arguments = image_given.arguments(step, args)
        if secrets:  # only this step sees them
            manifest_arguments["secrets"] = image_given.positions(self._secrets, secrets)
        if volumes:
            manifest_arguments["volumes"] = image_given.positions(self._volumes, volumes)
        new_step = Step(name=step, args=manifest_arguments, where=location.here())
        return Image(
            (*self._steps, new_step), (*self._secrets, *secrets), (*self._volumes, *volumes)
        )
