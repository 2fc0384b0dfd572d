"""A file for each group of pages. A page asks the API, and returns what its template shows."""

from homeport.dashboard.pages import (
    deploys,
    endpoint,
    home,
    kept,
    logs,
    requests,
    server,
    trying,
)

PAGES = (
    *home.PAGES,
    *endpoint.PAGES,
    *trying.PAGES,
    *requests.PAGES,
    *logs.PAGES,
    *deploys.PAGES,
    *kept.PAGES,
    *server.PAGES,
)
