"""The operations of an image with a root file system, each carried out in its own directory (`site`)."""

import asyncio
import dataclasses
import json
import os
import posixpath
import shlex
import shutil
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homeport.cell.description import Bind
from homeport.contract import codec, dockerfile
from homeport.contract.errors import ImageError
from homeport.contract.image import HOME
from homeport.node.images import private, uv, wheels
from homeport.node.images.equipment import GIVEN, equipment, show
from homeport.node.images.installers import POETRY, Installing, Syncing, repeated
from homeport.node.images.owned import hands, within
from homeport.node.images.rooted import (
    debian,
    download,
    instructions,
    plan,
    pull,
    python,
)
from homeport.node.images.rooted.python import Inside
from homeport.node.images.rooted.site import Below, Site, cell_of
from homeport.node.images.store import Store

PACKAGE = Path(__file__).parents[3]


class Work(Site):
    """Carries out one operation in its directory.

    One class, because each operation is one method on the same directory.
    """

    async def run(self) -> Below:
        """Run the operation; return the layers below later ones. After an `ImageError` the directory is useless."""
        self._build.mkdir()
        after = await getattr(self, f"_{self._op.kind}")()
        await asyncio.to_thread(shutil.rmtree, self._build)
        if after is not None:
            return after  # type: ignore[no-any-return]
        return dataclasses.replace(
            self._below, lowers=(*self._below.lowers, self._directory.name), python=None
        )

    # bases

    async def _debian(self) -> None:
        archive = self._build / "debian.tar"
        await debian.make(self._args["suite"], archive, self._report)
        await self._unpack(archive)

    async def _pull(self) -> Below:
        try:
            fetched = await pull.fetch(
                self._args["tag"], self._args["how"], self._build, self._secrets, self._report
            )
        except ImageError as failure:
            failure.hint = failure.hint or self._args.get("hint", "")
            raise
        names = []
        for digest, archive in fetched.blobs:
            names.append(name := pull.name_of(digest))
            await self._store.once(
                name, pull.unpacking(self._store.root / name, archive), self._report
            )
        return Below(lowers=tuple(names), config=pull.config_of(fetched.config))

    async def _python(self) -> None:
        version = self._args["version"]
        keep = self._store.root.parent / "pythons"
        home, why = await python.standalone(version, keep, self._op.step.where)
        hands.mkdir(self._files)
        if home is not None:
            self._report(f"Python {version} from {home.name}")
            order = {"do": "tree", "source": str(home), "place": python.PLACE}
            await hands.counts({**order, "without": python.MARKER, "into": str(self._files)})
            await self._link_python()
            return
        if self._op.step.name == "debian_slim" and debian.PYTHONS.get(plan.DEBIAN) == version:
            # The same version, built by Debian; without a way to python-build-standalone, better than none.
            self._report(f"Debian's Python {version}, because uv cannot fetch one: {why}")
            self._files.rmdir()
            unmarked = ["/bin/sh", "-c", f"rm -f /usr/lib/python3*/{python.MARKER}"]
            installed = debian.installing(debian.PYTHON_PACKAGES, only=True)
            await self._in_cell([("", installed), ("", unmarked)])
            return
        raise ImageError(
            f"there is no Python {version} to lay into the image: {why}",
            where=self._op.step.where,
            hint="`UV_PYTHON_INSTALL_MIRROR` says where uv takes it from; or begin with "
            f'`Image.from_registry("python:{version}-slim")`',
        )

    async def _link_python(self) -> None:
        """`python` and `pip` beside `python3`, as the original's images have them."""
        into = self._files / python.PLACE / "bin"
        names = {p.name for p in into.iterdir()}
        if "python" not in names and "python3" in names:
            script = self._build / "python"
            script.write_text('#!/bin/sh\nexec /usr/local/bin/python3 "$@"\n')
            files = [[str(script), f"{python.PLACE}/bin/python", 0o755]]
            await hands.counts({"do": "copy", "files": files, "into": str(self._files)})

    # commands

    async def _apt(self) -> None:
        packages = self._args["packages"]
        if any(package.startswith("-") or not package.strip() for package in packages):
            raise ImageError("`apt_install` takes names of packages", where=self._op.step.where)
        await self._in_cell([("", debian.installing(packages))])

    async def _git(self) -> None:
        private.credentials(self._op.step, self._secrets)  # it says early what is missing
        words = debian.installing(["git"])
        words[2] = f"command -v git >/dev/null && exit; {words[2]}"
        await self._in_cell([("", words)])

    async def _run(self) -> None:
        config = self._config
        binds, environ = await self._mounts()
        binds += self._supplied.binds(self._op.step)
        if text := self._args.get("spec_file_text"):
            spec = self._build / "given"
            spec.mkdir()
            (spec / "spec.yaml").write_text(text)
            binds.append(show(spec, "given"))
        if argv := self._args.get("argv"):
            commands = [(f"$ {shlex.join(argv)}", argv)]
        else:
            commands = [(f"$ {text}", [*config.shell, text]) for text in self._args["commands"]]
        await self._in_cell(commands, binds=binds, environ=environ)

    async def _mounts(self) -> tuple[list[Bind], dict[str, str]]:
        """Return the mounts that `RUN --mount` shows, and the variables that it sets; the layer has none of them."""
        binds: list[Bind] = []
        environ: dict[str, str] = {}
        for number, mount in enumerate(self._args.get("mounts", ())):
            path = self._build / f"mount-{number}"
            target = self._config.place(mount["target"] or f"/run/secrets/{mount.get('id', '')}")
            if mount["type"] == "secret":
                name = mount.get("id") or posixpath.basename(target)
                value = self._secrets.get(name)
                if value is None:
                    if mount.get("required") == "true":
                        raise ImageError(
                            f"`{self._op.title}`: no secret of the step has `{name}`",
                            where=self._op.step.where,
                            hint=f'`secrets=[modal.Secret.from_dict({{"{name}": …}})]`',
                        )
                    continue
                if variable := mount.get("env"):
                    environ[variable] = value
                if mount["target"] or not mount.get("env"):
                    path.touch(mode=0o600)
                    path.write_text(value)
                    binds.append(Bind(str(path), target, owned=os.geteuid() == 0))
            elif mount["type"] == "bind":
                binds.append(await self._bound(mount, path, target))
            else:  # a cache only saves time, and one that apps share could be poisoned
                hands.mkdir(path)
                binds.append(Bind(str(path), target, writable=True))
        return binds, environ

    async def _bound(self, mount: Mapping[str, Any], path: Path, target: str) -> Bind:
        if not mount["stage"]:
            await asyncio.to_thread(self._given_files.lay_out, mount["files"], path)
            return Bind(str(path), target, owned=os.geteuid() == 0)
        archive = path.with_suffix(".tar")
        await self._take(mount["stage"], [mount["source"]], archive, "/", is_directory=True)
        hands.mkdir(path)
        await hands.counts({"do": "unpack", "archive": str(archive), "into": str(path)})
        return Bind(str(path), target)

    async def _function(self) -> None:
        inside = self._python_there()
        args = self._args
        where = {"source": f"{GIVEN}/source", "cwd": HOME}
        call = self._build / "call.json"
        call.write_text(
            json.dumps(
                {**where, **{k: args.get(k) for k in ("module", "qualname", "args", "kwargs")}}
            )
        )
        shown = {call: "call.json", PACKAGE: "lib/homeport", self._source: "source"}
        binds = [show(path, name) for path, name in shown.items()]
        binds += self._supplied.binds(self._op.step)
        words = [inside.path, "-u", "-m", "homeport.runner.build", f"{GIVEN}/call.json"]
        timeout_s = float(args.get("timeout") or 3600)
        try:
            async with asyncio.timeout(timeout_s):
                await self._in_cell([("", words)], binds=binds, cwd=f"{GIVEN}/lib")
        except TimeoutError:
            reason = f"`{args['qualname']}` took longer than {timeout_s:g} s"
            raise self._failed(reason) from None

    async def _packages(self) -> None:
        inside = self._python_there()
        listed = self._build / "given"
        listed.mkdir()
        uv_there = equipment()
        trial = self._directory / "trial"
        await self._wheels.fetch(
            self._op.step, self._environ(), inside.version, trial, self._report
        )
        binds = [*uv_there.binds, show(listed, "given"), await self._wheels.bind()]
        commands = [("", words) for words in self._installing(listed, inside)]
        await self._in_cell(
            commands,
            binds=binds,
            environ={
                **uv_there.environ,
                **private.credentials(self._op.step, self._secrets),
                **POETRY,
                "POETRY_CACHE_DIR": f"{wheels.PLACE}/poetry",
                "UV_CACHE_DIR": wheels.PLACE,
            },
            failed=uv.in_one_line,
            over=[wheels.PLACE, f"{GIVEN}/given"],  # uv writes a lock into a project
        )

    def _installing(self, given_dir: Path, inside: Inside) -> list[list[str]]:
        program, there, step = f"{GIVEN}/uv", Path(GIVEN) / "given", self._op.step
        listed = "/tmp/homeport-requirements.txt"  # noqa: S108 - in the step's cell
        install = [program, "pip", "install", "--python", inside.path]
        install += ["--break-system-packages"] if inside.held else []
        if step.name == "uv_sync":
            syncing = Syncing(step, given_dir, there)
            syncing.write()
            if not (step.args.get("lockfile") and step.args.get("frozen")):
                groups_and_extras = [
                    *repeated("--group", step.args.get("groups")),
                    *repeated("--extra", step.args.get("extras")),
                ]
                return [[*install, "-r", str(there / "pyproject.toml"), *groups_and_extras]]
            # Into the image's own Python; `uv sync` would remove its other packages.
            export = ["export", "--quiet", "--no-emit-workspace", "--output-file", listed]
            return [
                [program, *export, *syncing.sync()],
                [*install, "-r", listed],
                ["rm", listed],
            ]
        if step.name == "poetry_install_from_file":
            # Poetry itself would install into a Python that is its own, or a virtual environment.
            syncing = Syncing(step, given_dir, there)
            syncing.write()
            exporting = [[program, *words] for words in syncing.exported(inside.path, listed)]
            return [*exporting, [*install, "-r", listed], ["rm", listed]]
        installing = Installing(step, given_dir, there, inside.path)
        return [[program, *words] for words in installing.commands(held=inside.held)]

    # files

    async def _empty(self) -> None:
        hands.mkdir(self._files)

    async def _copy(self) -> None:
        files = {_absolute(name): digest for name, digest in self._args["files"].items()}
        await self._lay([await self._archive({p: (d, None) for p, d in files.items()})])

    async def _COPY(self) -> None:  # noqa: N802 - the operation's name
        is_directory = await self._is_directory(self._config.place(self._target()))
        chosen_files = instructions.chosen(self._op, self._config, is_directory=is_directory)
        executables, files = {*self._args["executables"]}, self._args["files"]
        mode = self._mode()
        files_to_lay = {
            place: (files[name], mode or (0o755 if name in executables else 0o644))
            for place, name in chosen_files.items()
        }
        await self._lay([await self._archive(files_to_lay)])

    async def _COPY_FROM(self) -> None:  # noqa: N802
        archive = self._build / "taken.tar"
        is_directory = await self._is_directory(self._config.place(self._target()))
        sources = [dockerfile.expand(s, self._config.variables) for s in self._args["sources"]]
        target = self._config.place(self._target())
        target += "/" if self._target().endswith("/") else ""
        await self._take(self._args["stage"], sources, archive, target, is_directory=is_directory)
        await self._lay([(archive, "/")])

    async def _ADD_ARCHIVE(self) -> None:  # noqa: N802
        names = instructions.archives(self._op, self._config)
        local_paths = [self._given_files.local(self._args["files"][name], name) for name in names]
        await self._lay([(path, self._config.place(self._target())) for path in local_paths])

    async def _ADD_URL(self) -> None:  # noqa: N802
        url = dockerfile.expand(self._args["url"], self._config.variables)
        fetched = self._build / "fetched"
        self._report(f"{url}")
        await download.fetch(url, fetched, self._args["checksum"])
        place = self._config.place(self._target())
        name = posixpath.basename(urllib.parse.urlsplit(url).path)
        if self._target().endswith("/") or await self._is_directory(place):
            if not name:
                raise ImageError(f"`{self._op.title}`: the URL has no name for the file")
            place = posixpath.join(place, name)
        await self._lay([await self._archive({place: (fetched, self._mode() or 0o600)})])

    async def _WRITE(self) -> None:  # noqa: N802
        target, files_to_lay = self._config.place(self._target()), {}
        into = self._args["several"] or self._target().endswith("/")
        into = into or await self._is_directory(target)
        for number, (name, text) in enumerate(self._args["texts"].items()):
            path = self._build / f"document-{number}"
            path.write_text(dockerfile.expand(text, self._config.variables))
            place = posixpath.join(target, name) if into else target
            files_to_lay[place] = (path, self._mode() or 0o644)
        await self._lay([await self._archive(files_to_lay)])


async def search(store: Store, below: Below, trial: Path, where: str) -> Inside:
    """Return the Python of these layers; `ImageError` if no container can start with it."""
    await asyncio.to_thread(trial.mkdir, mode=0o700)
    try:
        order = {
            "do": "run",
            "cell": codec.encode(cell_of(store, below.lowers, trial)),
            "commands": [["", ["/bin/sh", "-c", python.SEARCH]]],
            "cwd": "/",
            "environ": {**below.config.environ, "LOOK": python.LOOK},
        }
        result = await hands.ask(order)
        if result.code == within.FAILED:
            raise ImageError(f"the image's cell cannot be made: {result.text}", where=where)
        return python.judged(result.code, result.lines, where)
    finally:
        await asyncio.to_thread(hands.empty, trial)
        await asyncio.to_thread(shutil.rmtree, trial, ignore_errors=True)


def _absolute(name: str) -> str:
    """Return the path that a file of the source tree has in a container."""
    return name if name.startswith("/") else f"{HOME}/{name}"
