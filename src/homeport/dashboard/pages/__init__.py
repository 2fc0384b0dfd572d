"""A file for each group of pages. A page asks the API, and returns what its template shows."""

from homeport.dashboard.pages import home

PAGES = (*home.PAGES,)
