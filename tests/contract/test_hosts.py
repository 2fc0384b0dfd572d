"""Which hosts a certificate covers."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import hosts

LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=5)


@given(LABEL, st.lists(LABEL, min_size=1, max_size=3))
def test_a_wildcard_covers_one_label_and_nothing_above_or_below(label, parent):
    name = f"*.{'.'.join(parent)}"

    assert hosts.covers([name], f"{label}.{'.'.join(parent)}")
    assert not hosts.covers([name], ".".join(parent))
    assert not hosts.covers([name], f"{label}.{label}.{'.'.join(parent)}")
    assert hosts.covers([name], name)
    assert not hosts.covers([f"{label}.{'.'.join(parent)}"], name)


@pytest.mark.parametrize("text", ["", "a..b", "-a.b", "A.b", "a b", "*", "a.*", "a\n", "a" * 64])
def test_a_text_that_is_no_host_is_refused(text):
    assert not hosts.is_name(text)
