"""The input and the output of a page."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from homeport.contract.dataclass import dataclass
from homeport.dashboard import render, session
from homeport.dashboard.api import Api

MOST_DIGITS = 9


def segment(text: str) -> str:
    """Return a name as one part of a path, whatever characters it has."""
    return quote(text, safe="") or "%20"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of a visitor who has a token."""

    request: Request
    api: Api  # with the visitor's token, for the environment below
    environment: str

    def has(self, tag: str) -> bool:
        """Return whether an open page asks for its middle part, and has this version of it already."""
        headers = self.request.headers
        return headers.get("x-part") == "main" and headers.get("if-none-match") == tag

    def parameter(self, name: str, most: int = 300) -> str:
        """Return a value of the query."""
        return self.request.query_params.get(name, "")[:most]

    def number(self, name: str) -> int:
        """Return a whole number of the query; 0 without one."""
        return whole(self.parameter(name, MOST_DIGITS)) or 0

    def moment(self, name: str) -> float:
        """Return a time of the query, in seconds since the epoch; 0 without one."""
        try:
            return max(0.0, min(float(self.parameter(name, 30)), 1e11))
        except ValueError:
            return 0.0

    def path(self, to: str, **parameters: str) -> str:
        """Return the address of another page of the same environment."""
        return render.path(to, self.environment, **parameters)

    def to(self, to: str, **parameters: str) -> Response:
        """Redirect the visitor to another page."""
        return RedirectResponse(self.path(to, **parameters), 303)

    async def form(self) -> dict[str, str]:
        """Return the fields of a form."""
        return await session.form(self.request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The middle of a page."""

    title: str
    body: Markup
    live_s: float = 0.0  # how often an open page asks again; 0: never
    status: int = 200
    tag: str = ""  # of what it is made of (`render.mark`); empty: its text is compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A path, and the function that answers it."""

    path: str
    handler: Callable[[Visit], Awaitable[Part | Response]]
    method: str = "GET"


def whole(text: str) -> int | None:
    """Return a whole number of a query or a form; None if the text is another one.

    >>> whole("12"), whole("-1"), whole("²"), whole("1" * 5000)
    (12, None, None, None)
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if is_number else None


def section(
    title: str, *parts: object, lead: str = "", find: str = "", live_s: float = 0.0
) -> Part:
    """Return a page of parts below each other, such as tables."""
    body = render.template("section", title=title, parts=parts, lead=lead, find=find)
    return Part(title=title, body=body, live_s=live_s)
