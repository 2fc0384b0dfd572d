"""What gives hosts a certificate before their URL answers; nothing does without a local CA."""

from collections.abc import Awaitable, Callable, Collection

Cover = Callable[[Collection[str]], Awaitable[None]]


async def no_cover(_hosts: Collection[str]) -> None:
    """Do nothing: hosts get no certificate, or get one later."""
