"""What one workspace may have of something that the server has once for all."""


def may_take(count: int, *, own: int, of_all: int, most: int, alone: bool) -> bool:
    """Return whether a workspace that has `own` may take `count` more, while all workspaces have `of_all` of `most`.

    Where it is not `alone`, it never has more than are left then. So it cannot take everything: one workspace gets half at
    most, a second one half of the rest, and so on; nothing is kept for a workspace that does not ask.

    >>> may_take(1, own=49, of_all=49, most=100, alone=False), may_take(1, own=50, of_all=50, most=100, alone=False)
    (True, False)
    >>> may_take(1, own=0, of_all=50, most=100, alone=False), may_take(1, own=99, of_all=99, most=100, alone=True)
    (True, True)
    """
    left = most - of_all - count
    return left >= (0 if alone else own + count)
