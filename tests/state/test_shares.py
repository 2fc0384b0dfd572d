"""No workspace can take everything that the server has for all."""

from hypothesis import given
from hypothesis import strategies as st

from homeport.state.shares import may_take


@given(st.lists(st.integers(0, 4), max_size=200), st.integers(0, 30))
def test_something_is_left_for_a_workspace_that_asks_late(asked, most):
    held = dict.fromkeys(range(5), 0)
    for who in asked:  # each takes what it may
        if may_take(1, own=held[who], of_all=sum(held.values()), most=most, alone=False):
            held[who] += 1
            assert most - sum(held.values()) >= held[who]  # so there is one for somebody else


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_one_workspace_alone_may_have_all(of_all, most, count):
    allowed = may_take(count, own=of_all, of_all=of_all, most=most, alone=True)

    assert allowed == (of_all + count <= most)
