"""PURE: a Dockerfile's text as instructions (docs.docker.com/reference/dockerfile).

The SDK asks it which files an image's steps read, the node what they do.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import field

from homeport.contract.dataclass import dataclass

#: Instructions for containers that Docker starts; they change no files.
IGNORED = frozenset({"CMD", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "STOPSIGNAL", "VOLUME"})
#: As in the original, the program of a container runs as its root.
USERS = frozenset({"USER"})
KNOWN = (
    frozenset({"ADD", "ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "SHELL", "WORKDIR"})
    | IGNORED
    | USERS
)
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")
#: A word of its own: `$((1<<2))` and `<<<` are shell syntax.
_HEREDOC = re.compile(r"(?<!\S)\d*<<(-?)\s*(['\"]?)([A-Za-z_]\w*)\2(?!\S)")
#: Kinds of `RUN --mount`. `ssh` needs an agent on the builder's own machine, and is not supported.
MOUNTS = frozenset({"bind", "cache", "secret", "tmpfs"})
_URL = re.compile(r"https?://", re.IGNORECASE)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"\\\$|\$(\w+)|\$\{(\w+)(?:(:[-+])([^}]*))?\}")
_PAIR = re.compile(r"""([\w.-]+)=((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])*)""")


class UnfitError(ValueError):
    """The text is not a Dockerfile, or uses an instruction that is not supported"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: `COPY --chmod=755 a b` has the value `a b`."""

    name: str
    value: str
    line: int  # where it begins, from 1
    flags: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[tuple[str, str], ...] = ()  # of `<<NAME`: name and text

    @property
    def text(self) -> str:
        """The instruction as a person reads it."""
        return f"{self.name} {self.value}"

    @property
    def mounts(self) -> list[dict[str, str]]:
        """The `--mount` flags of a RUN; `type` is always set."""
        mounts = []
        for text in self.flags.get("mount", "").split():
            pairs = [part.partition("=") for part in text.split(",")]
            mounts.append({"type": "bind", **{name: value or "true" for name, _, value in pairs}})
        return mounts

    def words(self) -> list[str]:
        """The value as words: a JSON list, or the text split at blanks."""
        return self.listed() or self.value.split()

    def listed(self) -> list[str] | None:
        """The value, if it is a JSON list of strings."""
        if not self.value.startswith("["):
            return None
        try:
            words = json.loads(self.value)
        except ValueError:
            return None
        return words if all(isinstance(word, str) for word in words) else None

    def pairs(self) -> list[tuple[str, str]]:
        """`ENV A=1 B="two words"`, or `ENV A the rest`: names and values with their quotes taken off."""
        pairs = [(name, _unquoted(value)) for name, value in _PAIR.findall(self.value)]
        if pairs and _PAIR.match(self.value):
            return pairs
        name, _, single = self.value.partition(" ")
        if not name or not single:
            raise UnfitError(f"line {self.line}: `{self.text}` has no value")
        return [(name, single.strip())]


def parse(text: str) -> list[Instruction]:
    """Return the instructions in order; `UnfitError` names the line that cannot be carried out."""
    lines = text.splitlines()
    instructions: list[Instruction] = []
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
        instructions.append(
            Instruction(
                name=name, value=value, line=begin + 1, flags=flags, documents=tuple(documents)
            )
        )
    for instruction in instructions:
        _check(instruction)
    return instructions


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return the text with `$NAME`, `${NAME}`, `${NAME:-other}` and `${NAME:+other}` replaced.

    >>> expand("$A/${B:-b}/${A:+c}/\\\\$A", {"A": "a"})
    'a/b/c/$A'
    """

    def value(match: "re.Match[str]") -> str:
        if match[0] == "\\$":
            return "$"
        current = variables.get(match[1] or match[2], "")
        if match[3] == ":-":
            return current or match[4]
        if match[3] == ":+":
            return match[4] if current else ""
        return current

    return _VARIABLE.sub(value, text)


def copied(instruction: Instruction) -> tuple[list[str], str]:
    """Return the sources and the destination of a COPY or ADD."""
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
            return "".join(f"{text_line}\n" for text_line in body), number + 1
        body.append(text)
    raise UnfitError(f"line {line}: the here-document has no end: `{mark[3]}` is missing")


def _flags(value: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while match := _FLAG.match(value + " "):
        earlier = flags.get(match[1])
        flags[match[1]] = f"{earlier} {match[2]}" if earlier else match[2] or ""
        value = value[match.end() :].strip()
    return flags, value


def _check(instruction: Instruction) -> None:
    name, flags, line = instruction.name, instruction.flags, instruction.line
    if not instruction.value:
        raise UnfitError(f"line {line}: `{name}` has no value")
    if name in ("COPY", "ADD"):
        sources, _ = copied(instruction)
        if not sources:
            raise UnfitError(f"line {line}: `{instruction.text}` has no destination")
        if any(source.startswith("git@") or source.endswith(".git") for source in sources):
            raise UnfitError(
                f"line {line}: `{name}` of a repository is not supported: use `RUN git`"
            )
        if name == "COPY" and any("://" in source for source in sources):
            raise UnfitError(f"line {line}: `COPY` takes no URL: use `ADD`")
        if (checksum := flags.get("checksum")) and not _CHECKSUM.fullmatch(checksum):
            raise UnfitError(f"line {line}: `--checksum` is `sha256:` and 64 digits")
    for mount in instruction.mounts if name == "RUN" else ():
        if mount["type"] not in MOUNTS:
            raise UnfitError(f"line {line}: `RUN --mount=type={mount['type']}` is not supported")
        if mount["type"] == "secret" and not (mount.get("id") or mount.get("target")):
            raise UnfitError(f"line {line}: a mounted secret needs an `id`")
        if mount["type"] != "secret" and not _target(mount):
            raise UnfitError(f"line {line}: `RUN --mount` needs a `target`")


def _target(mount: Mapping[str, str]) -> str:
    return mount.get("target") or mount.get("dst") or mount.get("destination") or ""


def mounted(mount: Mapping[str, str]) -> tuple[str, str]:
    """Return the path where a mount is shown in the image, and the path that it shows of the directory or stage."""
    return _target(mount), mount.get("source") or mount.get("src") or "."


def _unquoted(text: str) -> str:
    """Return a word without its quotes and backslashes; `\\$` stays, because `expand` reads it."""
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
