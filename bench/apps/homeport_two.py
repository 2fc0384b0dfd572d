"""`two.py` on homeport: the app `one` has one container, and the app `three` has three."""

from two import web

import homeport

one, three = homeport.App("one"), homeport.App("three")


@one.function(min_containers=1, max_containers=1)
@homeport.concurrent(max_inputs=1000)
@homeport.asgi_app()
def of_one():
    return web


@three.function(min_containers=3, max_containers=3)
@homeport.concurrent(max_inputs=1000)
@homeport.asgi_app()
def of_three():
    return web
