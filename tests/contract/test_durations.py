"""How long something lasts, as people write it."""

import pytest

from homeport.contract import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7776000), ("12h", 43200), ("30m", 1800), (" 10s ", 10), ("2w", 1209600)],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert seconds == durations.seconds(text)


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5h", "1y", "1d 2h", "9999999d", "\u0661d"]
)
def test_any_other_duration_is_refused(text):
    with pytest.raises(ValueError, match="such as 90d"):
        durations.seconds(text)
