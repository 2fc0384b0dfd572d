"""A file for each group of pages. A page asks the API, and returns the data for its template."""

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
