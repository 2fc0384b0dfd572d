"""How commands name an endpoint: `APP`, or `APP.FUNCTION`."""

from typing import Annotated

import typer

Endpoint = Annotated[
    str,
    typer.Argument(
        metavar="APP[.FUNCTION]",
        help="A deployed app; name the function if the app has several URLs.",
    ),
]


def parts(endpoint: str) -> tuple[str, str]:
    """Return the app and the function, which is empty if there is none. A `/` parts an app with a dot in its name (`names.endpoint`).

    >>> parts("shop.Cart.add"), parts("my.app/price"), parts("shop")
    (('shop', 'Cart.add'), ('my.app', 'price'), ('shop', ''))
    """
    app, _, tag = endpoint.partition("/" if "/" in endpoint else ".")
    return app, tag
