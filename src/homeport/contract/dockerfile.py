"""PURE: a Dockerfile's text as instructions (docs.docker.com/reference/dockerfile).

The SDK asks it which files an image's steps read, the node what they do.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import field

from homeport.contract.dataclass import dataclass

#: They say something about containers that are started by Docker, and nothing about the files.
IGNORED = frozenset({"CMD", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "STOPSIGNAL", "VOLUME"})
#: As in the original, containers run as root of their own.
USERS = frozenset({"USER"})
KNOWN = (
    frozenset({"ADD", "ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "SHELL", "WORKDIR"})
    | IGNORED
    | USERS
)
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")
#: A word of its own: `$((1<<2))` and `<<<` are the shell's.
_HEREDOC = re.compile(r"(?<!\S)\d*<<(-?)\s*(['\"]?)([A-Za-z_]\w*)\2(?!\S)")
#: Kinds of `RUN --mount`; those that need an agent of the builder's own machine are not there.
MOUNTS = frozenset({"bind", "cache", "secret", "tmpfs"})
_URL = re.compile(r"https?://", re.IGNORECASE)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"\\\$|\$(\w+)|\$\{(\w+)(?:(:[-+])([^}]*))?\}")
_PAIR = re.compile(r"""([\w.-]+)=((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])*)""")


class UnfitError(ValueError):
    """The text is no Dockerfile, or uses what is not there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One of them: `COPY --chmod=755 a b` has the value `a b`."""

    name: str
    value: str
    line: int  # where it begins, from 1
    flags: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[tuple[str, str], ...] = ()  # of `<<NAME`: name and text

    @property
    def text(self) -> str:
        """As a person reads it."""
        return f"{self.name} {self.value}"

    @property
    def mounts(self) -> list[dict[str, str]]:
        """The `--mount` flags of a RUN; `type` is always there."""
        found = []
        for text in self.flags.get("mount", "").split():
            pairs = [part.partition("=") for part in text.split(",")]
            found.append({"type": "bind", **{name: value or "true" for name, _, value in pairs}})
        return found

    def words(self) -> list[str]:
        """The value as words: a JSON list, or what blanks divide."""
        return self.listed() or self.value.split()

    def listed(self) -> list[str] | None:
        """The value, if it is a JSON list of strings."""
        if not self.value.startswith("["):
            return None
        try:
            found = json.loads(self.value)
        except ValueError:
            return None
        return found if all(isinstance(word, str) for word in found) else None

    def pairs(self) -> list[tuple[str, str]]:
        """`ENV A=1 B="two words"`, or `ENV A the rest`: names and values with their quotes taken off."""
        found = [(name, _unquoted(value)) for name, value in _PAIR.findall(self.value)]
        if found and _PAIR.match(self.value):
            return found
        name, _, rest = self.value.partition(" ")
        if not name or not rest:
            raise UnfitError(f"line {self.line}: `{self.text}` has no value")
        return [(name, rest.strip())]


def parse(text: str) -> list[Instruction]:
    """The instructions in order; `UnfitError` names the line that cannot be carried out."""
    lines = text.splitlines()
    found: list[Instruction] = []
    position = 0
    while position < len(lines):
        begin = position
        line = lines[position].strip()
        position += 1
        if not line or line.startswith("#"):
            continue
        while line.endswith("\\") and position < len(lines):
            following = lines[position].strip()
            position += 1
            if following.startswith("#"):
                continue
            line = f"{line[:-1].rstrip()} {following}"
        name, _, value = line.rstrip("\\").strip().partition(" ")
        name, value = name.upper(), value.strip()
        if name not in KNOWN:
            raise UnfitError(
                f"line {begin + 1}: `{name}` is not an instruction that homeport carries out"
            )
        flagged = name in ("ADD", "COPY", "FROM", "RUN")
        flags, value = _flags(value) if flagged else ({}, value)
        documents = []
        for mark in _HEREDOC.finditer(value) if name in ("RUN", "COPY", "ADD") else ():
            text, position = _document(lines, position, mark, begin + 1)
            documents.append((mark[3], text))
        found.append(
            Instruction(
                name=name, value=value, line=begin + 1, flags=flags, documents=tuple(documents)
            )
        )
    for instruction in found:
        _check(instruction)
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with `$NAME`, `${NAME}`, `${NAME:-other}` and `${NAME:+other}` replaced.

    >>> expand("$A/${B:-b}/${A:+c}/\\\\$A", {"A": "a"})
    'a/b/c/$A'
    """

    def value(found: "re.Match[str]") -> str:
        if found[0] == "\\$":
            return "$"
        known = variables.get(found[1] or found[2], "")
        if found[3] == ":-":
            return known or found[4]
        if found[3] == ":+":
            return found[4] if known else ""
        return known

    return _VARIABLE.sub(value, text)


def copied(instruction: Instruction) -> tuple[list[str], str]:
    """The sources and the destination of a COPY or ADD."""
    *sources, target = instruction.words()
    return sources, target


def script(instruction: Instruction) -> str:
    """Return the script that a RUN gives to the shell: its value, or its here-document if that is all of it."""
    if len(instruction.documents) == 1 and _HEREDOC.fullmatch(instruction.value.strip()):
        return instruction.documents[0][1]
    texts = [f"{text}{name}" for name, text in instruction.documents]
    return "\n".join([instruction.value, *texts])  # the shell itself reads the here-documents


def is_url(source: str) -> bool:
    """Return whether ADD downloads this source."""
    return bool(_URL.match(source))


def _document(lines: list[str], position: int, mark: "re.Match[str]", line: int) -> tuple[str, int]:
    body: list[str] = []
    for number in range(position, len(lines)):
        text = lines[number].lstrip("\t") if mark[1] else lines[number]
        if text == mark[3]:
            return "".join(f"{each}\n" for each in body), number + 1
        body.append(text)
    raise UnfitError(f"line {line}: `{mark[3]}` does not come again")


def _flags(value: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while match := _FLAG.match(value + " "):
        kept = flags.get(match[1])
        flags[match[1]] = f"{kept} {match[2]}" if kept else match[2] or ""
        value = value[match.end() :].strip()
    return flags, value


def _check(instruction: Instruction) -> None:
    name, flags, line = instruction.name, instruction.flags, instruction.line
    if not instruction.value:
        raise UnfitError(f"line {line}: `{name}` says nothing")
    if name in ("COPY", "ADD"):
        sources, _ = copied(instruction)
        if not sources:
            raise UnfitError(f"line {line}: `{instruction.text}` has no destination")
        if any(source.startswith("git@") or source.endswith(".git") for source in sources):
            raise UnfitError(f"line {line}: `{name}` of a repository is not there: use `RUN git`")
        if name == "COPY" and any("://" in source for source in sources):
            raise UnfitError(f"line {line}: `COPY` takes no URL: use `ADD`")
        if (checksum := flags.get("checksum")) and not _CHECKSUM.fullmatch(checksum):
            raise UnfitError(f"line {line}: `--checksum` is `sha256:` and 64 digits")
    for mount in instruction.mounts if name == "RUN" else ():
        if mount["type"] not in MOUNTS:
            raise UnfitError(f"line {line}: `RUN --mount=type={mount['type']}` is not there")
        if mount["type"] == "secret" and not (mount.get("id") or mount.get("target")):
            raise UnfitError(f"line {line}: a mounted secret needs an `id`")
        if mount["type"] != "secret" and not _target(mount):
            raise UnfitError(f"line {line}: `RUN --mount` needs a `target`")


def _target(mount: Mapping[str, str]) -> str:
    return mount.get("target") or mount.get("dst") or mount.get("destination") or ""


def mounted(mount: Mapping[str, str]) -> tuple[str, str]:
    """Return a mount's path in the image, and the file of the directory or stage that it shows."""
    return _target(mount), mount.get("source") or mount.get("src") or "."


def _unquoted(text: str) -> str:
    """A word without its quotes and backslashes, but `\\$`, which `expand` understands."""
    out, quote, position = [], "", 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and quote != "'" and position + 1 < len(text):
            following = text[position + 1]
            out.append(f"\\{following}" if following == "$" else following)
            position += 2
            continue
        if letter in "\"'" and (not quote or quote == letter):
            quote = "" if quote else letter
        else:
            out.append("\\$" if letter == "$" and quote == "'" else letter)
        position += 1
    return "".join(out)
