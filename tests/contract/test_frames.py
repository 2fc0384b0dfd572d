"""Several byte strings as one, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import frames

PARTS = st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=10)


@given(PARTS)
def test_packed_parts_are_unpacked_as_they_were(parts):
    assert parts == frames.unpack(frames.pack(parts))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data):
    try:
        parts = frames.unpack(data)
    except ValueError:
        return
    assert data == frames.pack(parts)


def test_a_missing_part_is_no_value():
    assert [b"a", b""] == frames.values(frames.pack([b"a", b""]))
    with pytest.raises(ValueError, match="missing"):
        frames.values(frames.pack([b"a", None]))
