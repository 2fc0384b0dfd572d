"""`enable_output`: output is shown inside the outermost block, and not after it."""

from homeport.sdk import context


def test_output_is_shown_until_the_last_block_ends():
    shown = [context.shows_output()]
    with context.enable_output():
        with context.enable_output():
            shown.append(context.shows_output())
        shown.append(context.shows_output())
    shown.append(context.shows_output())
    with context.enable_output():
        shown.append(context.shows_output())

    assert [False, True, True, False, True] == shown
