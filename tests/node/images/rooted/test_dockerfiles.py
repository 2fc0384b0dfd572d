"""A Dockerfile is carried out as Docker would: stages, copied and downloaded files, here-documents and mounts."""

import bz2
import contextlib
import gzip
import hashlib
import http.server
import io
import lzma
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.contract.errors import ImageError
from tests import registries, web

from .conftest import WHERE, step

DOCKERFILE = """
# a comment
ARG BASE
FROM ${BASE} AS final
ARG WHO=nobody
ENV GREETING="hello ${WHO}" PATH=/opt/bin:$PATH
WORKDIR /srv/app
COPY --chmod=755 tools/*.sh tools/
COPY data.txt copied.txt
COPY . whole/
RUN echo "$GREETING" > greeting \\
    && cat copied.txt
RUN ["/usr/bin/touch", "exec form"]
RUN --mount=type=cache,target=/cache <<EOF
echo from a script > script
EOF
EXPOSE 80
USER somebody
CMD ["python"]
"""


async def test_a_dockerfile_is_carried_out(house, base):
    contents = {"data.txt": "aa", "tools/a.sh": "bb", "tools/b.sh": "bb", "tools/c.txt": "cc"}
    for name, digest in contents.items():
        (house.given / digest).write_text(name)
    built = await house.make(
        step(
            "from_dockerfile",
            text=DOCKERFILE,
            files=contents,
            build_args={"BASE": base.args["tag"], "WHO": "sailor"},
        )
    )

    assert "hello sailor\n" == house.text(built, "/srv/app/greeting")
    assert "data.txt" == house.text(built, "/srv/app/copied.txt")
    assert os.access(house.seen(built, "/srv/app/tools/a.sh"), os.X_OK)
    assert "tools/c.txt" == house.text(built, "/srv/app/whole/tools/c.txt")
    assert house.seen(built, "/srv/app/exec form").exists()
    assert "from a script\n" == house.text(built, "/srv/app/script")
    assert ("/srv/app", "/opt/bin:/usr/bin:/bin") == (built.workdir, built.environ["PATH"])
    assert "WHO" not in built.environ


async def test_lines_of_a_dockerfile_continue_an_image(house, base):
    built = await house.make(
        base, step("dockerfile_commands", commands=["ENV X=1", "RUN echo $X > /x", "WORKDIR /w"])
    )

    assert ("1\n", "1", "/w") == (house.text(built, "/x"), built.environ["X"], built.workdir)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("RUN true", "`FROM` comes first"),
        ("", "there is no `FROM`"),
        ("FROM a b", "is not `FROM image AS name`"),
        ("FROM x\nCOPY --from=later b c\nFROM scratch AS later\nFROM 0", "comes after the one"),
        ("FROM x\nCOPY https://example.com/f /f", "`COPY` takes no URL"),
        ("FROM x\nADD --checksum=md5:1 https://example.com/f /f", "`--checksum` is `sha256:`"),
        ("FROM x\nADD git@example.com:a.git /f", "use `RUN git`"),
        ("FROM x\nRUN --mount=type=ssh true", "type=ssh` is not supported"),
        ("FROM x\nRUN --mount=type=secret true", "needs an `id`"),
        ("FROM x\nRUN <<EOF\ntrue", "the here-document has no end: `EOF` is missing"),
        ("FROM x\nFLY away", "line 2: `FLY` is not an instruction"),
        ("FROM scratch", "no shell to look for its Python"),
    ],
)
async def test_the_instruction_that_a_dockerfile_may_not_have_is_named(house, text, why):
    failure = await house.fails(step("from_dockerfile", text=text))

    assert why in failure.message
    assert WHERE == failure.where


async def test_a_file_that_is_not_in_the_context_is_named(house, base):
    text = f"FROM {base.args['tag']}\nCOPY missing.txt /x"
    failure = await house.fails(step("from_dockerfile", text=text, files={"a": "aa"}))

    assert "there is no `missing.txt`" in failure.message


def dockerfile(base, text: str, **args):
    return step("from_dockerfile", text=f"FROM {base.args['tag']} AS base\n{text}", **args)


STAGES = r"""
ENV FROM_BASE=1
FROM base AS build
ARG WORD=built
RUN mkdir -p /out/sub && echo $WORD > /out/tool && chmod 755 /out/tool \
    && echo 2 > /out/sub/two && ln -s tool /out/link && touch /only-here
FROM base AS unused
RUN exit 1
FROM base
COPY --from=build /out /srv/out
COPY --from=build /out/tool /bin/tool
COPY --from=build --chmod=600 /out/sub/* /srv/
RUN test ! -e /only-here
RUN test -x /srv/out/tool && cat /srv/out/sub/two
RUN cat /usr/bin/tool /bin/tool
"""


async def test_stages_are_built_and_only_what_is_copied_is_in_the_image(house, base):
    built = await house.make(dockerfile(base, STAGES))

    assert "built\n" == house.text(built, "/srv/out/tool")
    assert "tool" == os.readlink(house.seen(built, "/srv/out/link"))
    assert 0o600 == house.seen(built, "/srv/two").stat().st_mode & 0o777
    assert "1" == built.environ["FROM_BASE"]
    # `/bin` is a link to `usr/bin` in this image, and stays one.
    assert not any((Path(lower) / "bin").is_dir() for lower in built.lowers[1:])


async def test_files_are_copied_from_another_image(house, base, registry):
    layer = registries.layer({"opt/data/a": "A", "opt/data/b": "B"})
    other = registry.push("other-files:1", [layer])
    built = await house.make(
        dockerfile(base, f"COPY --from={other} /opt/data/ /srv/\nRUN cat /srv/a /srv/b")
    )
    again = await house.make(
        base, step("dockerfile_commands", commands=[f"COPY --from={other} /opt/data/a /a"])
    )

    assert "A" == house.text(built, "/srv/a") == house.text(again, "/a")
    failure = await house.fails(dockerfile(base, f"COPY --from={other} /no/thing /x"))
    assert "there is no `/no/thing` to copy from" in failure.message


async def test_a_copy_keeps_the_rights_of_directories_and_the_links_of_the_image(house, base):
    (house.given / "aa").write_text("copied")
    text = (
        "RUN mkdir -m 1777 /shared && mkdir /real && ln -s /real /linked\n"
        "COPY f /shared/f\nCOPY f /linked/\nCOPY f /usr/../real/g\nCOPY f /bin/copied\n"
        "COPY --chown=7:8 f /owned\nCOPY f /bin\nWORKDIR /real\nRUN mkdir own\nCOPY f own\n"
        "RUN cat /usr/bin/f /real/own/f && echo\n"
        "RUN test -k /shared && cat /real/f /real/g /bin/copied && test -L /linked && echo\n"
        "RUN stat -c %u:%g /owned"
    )
    await house.make(dockerfile(base, text, files={"f": "aa"}))

    assert "from_dockerfile: copiedcopied" in house.said
    assert "from_dockerfile: copiedcopiedcopied" in house.said
    assert "from_dockerfile: 7:8" in house.said or os.geteuid() != 0


DOCUMENTS = """
ENV WHO=sailor
COPY <<one <<"two" /srv/
hello $WHO
one
hello $WHO
two
COPY <<-EOF /etc/motd
\tindented
\tEOF
RUN test $((1<<2)) = 4
RUN cat <<EOF > /srv/three && echo after >> /srv/three
in a shell: $WHO
EOF
"""


async def test_here_documents_are_files_and_scripts(house, base):
    built = await house.make(dockerfile(base, DOCUMENTS))

    assert "hello sailor\n" == house.text(built, "/srv/one")
    assert "hello $WHO\n" == house.text(built, "/srv/two")
    assert "indented\n" == house.text(built, "/etc/motd")
    assert "in a shell: sailor\nafter\n" == house.text(built, "/srv/three")


def archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        ("tar", bytes),
        ("tar.gz", gzip.compress),
        ("tar.bz2", bz2.compress),
        ("tar.xz", lzma.compress),
    ],
)
async def test_an_added_archive_is_unpacked(house, base, ending, compress):
    (house.given / "aa").write_bytes(compress(archive({"d/a": "in it", ".wh.kept": "k"})))
    name = f"a.{ending}"
    text = f"ADD {name} /srv/new\nCOPY {name} /srv/"
    built = await house.make(dockerfile(base, text, files={name: "aa"}))

    assert "in it" == house.text(built, "/srv/new/d/a")
    assert "k" == house.text(built, "/srv/new/.wh.kept")
    assert house.seen(built, f"/srv/{name}").is_file()


async def test_an_added_archive_cannot_leave_its_directory(house, base):
    (house.given / "aa").write_bytes(archive({"../../etc/passwd": "root::0:0"}))
    failure = await house.fails(dockerfile(base, "ADD a.tar /srv/new", files={"a.tar": "aa"}))

    assert "leads out of the layer" in failure.message


@pytest.fixture
def site() -> Iterator[str]:
    """A web server with one file, and with an address that leads to a file of the machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/leads":
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname")
                self.end_headers()
                return
            self.send_response(200 if self.path == "/tool.bin" else 404)
            self.end_headers()
            self.wfile.write(b"downloaded")

        def log_message(self, *_):
            pass

    with web.served(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}"


async def test_a_url_is_added_if_it_is_what_the_dockerfile_says(house, base, site):
    digest = hashlib.sha256(b"downloaded").hexdigest()
    url = f"{site}/tool.bin"
    text = f"ADD --checksum=sha256:{digest} --chmod=755 {url} /opt/\nADD {url} /x"
    built = await house.make(dockerfile(base, text))
    wrong = await house.fails(dockerfile(base, f"ADD --checksum=sha256:{'0' * 64} {url} /x"))
    missing = await house.fails(dockerfile(base, f"ADD {site}/none /x"))
    leads = await house.fails(dockerfile(base, f"ADD {site}/leads /x"))

    assert "downloaded" == house.text(built, "/opt/tool.bin")
    assert 0o755 == house.seen(built, "/opt/tool.bin").stat().st_mode & 0o777
    assert 0o600 == house.seen(built, "/x").stat().st_mode & 0o777
    assert f"it has the checksum sha256:{digest}" in wrong.message
    assert "404" in missing.message
    assert "'file:///etc/hostname' is not allowed" in leads.message


async def test_mounts_of_a_run_are_there_for_it_alone(house, base):
    house.secrets = {"token": "hush-hush"}
    (house.given / "aa").write_text("bound")
    text = (
        "RUN --mount=type=secret,id=token cat /run/secrets/token > /seen\n"
        "RUN --mount=type=secret,id=token,target=/t --mount=type=secret,id=token,env=AS_ENV "
        'test "$(cat /t)" = "$AS_ENV"\n'
        "RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/mem touch /cache/a /mem/b\n"
        "RUN --mount=type=bind,source=d,target=/d cat /d/f > /f; ! touch /d/g\n"
        "RUN mkdir /from && echo staged > /from/s\n"
        "FROM base\nRUN --mount=type=bind,from=0,source=/from,target=/m cat /m/s > /s\n"
        "RUN test ! -e /run/secrets/token && test ! -e /t"
    )
    built = await house.make(dockerfile(base, text, files={"d/f": "aa"}))
    missing = await house.fails(
        dockerfile(base, "RUN --mount=type=secret,id=nobody,required=true true")
    )

    assert "staged\n" == house.text(built, "/s")
    assert "no secret of the step has `nobody`" in missing.message
    left = [
        path for path in house.root.glob("*/files/**/*") if path.name in ("token", "a", "b", "g")
    ]
    assert [] == [path for path in left if path.is_file() and path.stat().st_size < 100]


async def test_an_image_from_nothing_takes_its_files_from_others(house, base):
    tag = base.args["tag"]
    built = await house.make(
        step("from_scratch"),
        step("dockerfile_commands", commands=[f"COPY --from={tag} / /", "ENV PATH=/usr/bin"]),
    )

    assert "/usr/bin/python3" == built.python
    assert "/usr/bin" == built.environ["PATH"]


@pytest.mark.parametrize("name", ["../../../outside", "/abs", "a/../../outside"])
async def test_a_hostile_context_stays_in_the_image(house, base, name, tmp_path):
    """A manifest may name any paths; whatever comes of it lies in the image."""
    (house.given / "aa").write_text("x")
    text = "COPY . /srv/\nRUN --mount=type=bind,source=.,target=/m true\n"
    with contextlib.suppress(ImageError):
        await house.make(dockerfile(base, text, files={name: "aa", "f": "aa"}))

    assert ["home"] == [path.name for path in tmp_path.iterdir()]
    assert not [p for p in tmp_path.rglob("outside") if "files" not in p.parts]
