"""HAProxy's Runtime API: commands over a Unix socket (management guide, section 9.3).

A command is a tuple of words, and a word may have only certain characters: a `;`, a newline or a blank
would begin another command, a backslash would change the next word, and `<<` would make HAProxy wait for
more input.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import IngressError

TIMEOUT_S = 10.0
MOST_COMMANDS, MOST_BYTES = (
    50,
    32 * 1024,
)  # in a line of the Runtime API, which must fit HAProxy's buffer
GOOD = ("", "New server registered.", "Server deleted.")
_WORD = re.compile(r"[A-Za-z0-9._~%/:@*?=&,+()-]+")

_PAYLOAD = re.compile(r"([!-~][ -~]*\n)*[!-~][ -~]*")  # no empty line, which would end it

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of several about certificates, which HAProxy answers with a text."""

    command: Command
    payload: str = ""  # lines that follow the command
    good: str = ""  # a part of the answer, if the command is carried out


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `show stat`."""

    backend: str
    server: str  # `BACKEND` for the sum of the backend's servers
    queued: int
    running: int
    served: int
    errors: int
    status: str = ""


class Runtime:
    """One HAProxy process."""

    def __init__(self, socket: str) -> None:
        self.socket = socket

    async def tell(self, commands: Sequence[Command], at_once: Sequence[Command] = ()) -> None:
        """Carry out the commands, and then those of `at_once` in one batch, with no request between them.

        Raises `IngressError` if one is refused: others of its batch are carried out, and none of a later batch.
        """
        _line([*commands, *at_once])  # checks every word before the first command is sent
        # A batch is one connection: six for one container took 3 ms of its start.
        for batch in filter(None, (*_batches(commands), at_once)):
            answers = [line.strip() for line in (await self.ask(*batch)).split("\n")]
            if refusals := [answer for answer in answers if answer not in GOOD]:
                kinds = ", ".join(dict.fromkeys(f"`{' '.join(words[:2])}`" for words in batch))
                raise IngressError(f"HAProxy refused one of {kinds}: {' '.join(refusals)[:500]}")

    async def carry_out(self, steps: Sequence[Step]) -> None:
        """Carry out the steps; `IngressError` at the first that is refused. Those before it stay done."""
        for step in steps:
            line = _line([step.command])
            if step.payload:
                if not _PAYLOAD.fullmatch(step.payload):
                    raise ValueError("the Runtime API cannot take these lines")
                line = line.rstrip() + b" <<\n" + step.payload.encode("ascii") + b"\n\n"
            answer = (await self._send(line)).strip()
            if step.good not in answer:
                name = " ".join(step.command[:3])
                raise IngressError(f"HAProxy refused `{name}`: {answer or 'without a reason'}")

    async def end(self, sessions: Sequence[str]) -> None:
        """End these requests or connections, by their ids in `show sess`; some may have ended meanwhile."""
        commands = [("shutdown", "session", session) for session in sessions]
        for batch in filter(None, _batches(commands)):
            await self.ask(*batch)

    async def ask(self, *commands: Command) -> str:
        """Carry out these commands in one batch; return the answers.

        Raises `ValueError` for a word with a character that is not allowed: a bug of ours.
        """
        return await self._send(_line(commands))

    async def _send(self, line: bytes) -> str:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    writer.write(line)
                    return (await reader.read()).decode("utf-8", "replace")
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise IngressError(f"HAProxy does not answer: {error}") from None

    async def stats(self, backends: Sequence[str]) -> list[Row]:
        """Return the statistics of these backends and their servers."""
        rows = []
        for start in range(0, len(backends), 100):
            part = backends[start : start + 100]
            text = await self.ask(*(("show", "stat", name, "6", "-1") for name in part))
            rows += parse_stats(text)
        return rows


def _batches(commands: Sequence[Command]) -> Iterator[list[Command]]:
    batch: list[Command] = []
    size = 0
    for command in commands:
        length = sum(map(len, command)) + len(command) + 1
        if batch and (len(batch) == MOST_COMMANDS or size + length > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(command)
        size += length
    yield batch


def _line(commands: Sequence[Command]) -> bytes:
    for word in (word for command in commands for word in command):
        if not _WORD.fullmatch(word):
            raise ValueError(f"the Runtime API cannot take this word: {word!r}")
    return "; ".join(" ".join(command) for command in commands).encode("ascii") + b"\n"


#: The columns of a `Row`, in the order of its fields.
_COLUMNS = ("pxname", "svname", "qcur", "scur", "stot", "hrsp_5xx", "status")


def parse_stats(text: str) -> list[Row]:
    """Return the rows in the answers to one or more `show stat`.

    Each answer repeats the names of its hundred columns, and only columns behind these seven may be quoted. The csv module
    and a dict for each line took five times as long.
    """
    rows = []
    header, places, last = "", [0] * len(_COLUMNS), 0
    for line in text.split("\n"):
        if line.startswith("# "):
            if line != header:
                names = line[2:].split(",")
                header, places = line, [names.index(name) for name in _COLUMNS]
                last = max(places) + 1
        elif line:
            fields = line.split(",", last)
            backend, server, queued, running, served, errors, status = (fields[i] for i in places)
            rows.append(
                Row(
                    backend=backend,
                    server=server,
                    queued=int(queued or 0),
                    running=int(running or 0),
                    served=int(served or 0),
                    errors=int(errors or 0),
                    status=status,
                )
            )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One line of `show sess`: a request that has not ended."""

    id: str
    server: str
    age_s: int


SESSION = re.compile(
    r"^(0x[0-9a-f]+): .*? srv=(\S+) .*?age=(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?"
)


def sessions(text: str) -> list[Session]:
    """Return the requests in the answer to `show sess`.

    >>> sessions("0x7f: proto=tcpv4 src=127.0.0.1:1 fe=web be=b0 srv=ta-1 ts=00 age=1m5s calls=2")[0].age_s
    65
    """
    requests = []
    for line in text.splitlines():
        if match := SESSION.match(line):
            days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[2:])
            age_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
            requests.append(Session(id=match[1], server=match[2], age_s=age_s))
    return requests
