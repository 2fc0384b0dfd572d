"""Which names are allowed, and the host of an endpoint (behaviour spec, sections 1.1 and 4)."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import names

LABELS = st.from_regex(r"[a-z][a-z0-9-]{0,90}[a-z0-9]", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("hello", "hello"),
        ("My_App v1.2", "my-app-v1-2"),
        ("a__b", "a--b"),
        ("Ünicode", "-nicode"),
        ("", ""),
    ],
)
def test_every_other_character_is_a_dash_of_its_own(text, slug):
    assert slug == names.slug(text)


def test_a_default_label_is_the_app_and_the_function_or_method():
    assert "shop-hello" == names.default_label("shop", "hello")
    assert "my-shop-cart-add" == names.default_label("My_Shop", "Cart.add")


def test_a_short_host_is_whole():
    assert "ada--shop-hello" == names.host_label("ada", "shop-hello")
    assert "ada--shop-hello-dev" == names.host_label("ada", "shop-hello", "dev")


def test_a_long_host_is_cut_to_63_and_hashed_without_its_suffix():
    full = "ada--" + "x" * 80
    digest = hashlib.sha256(full.encode()).hexdigest()[:6]

    assert full[:56] + "-" + digest == names.host_label("ada", "x" * 80)
    assert full[:52] + "-" + digest + "-dev" == names.host_label("ada", "x" * 80, "dev")


@given(LABELS, st.sampled_from(["", "dev", "x1"]))
def test_every_host_is_one_dns_label(label, suffix):
    host = names.host_label("ada", label, suffix)

    assert names.is_label(host)
    assert host.endswith(f"-{suffix}" if suffix else host)


@given(st.lists(LABELS, unique=True, min_size=2, max_size=2))
def test_different_labels_have_different_hosts(labels):
    one, other = (names.host_label("ada", label) for label in labels)

    assert one != other


@pytest.mark.parametrize(
    ("label", "good"),
    [
        ("a", True),
        ("a-b", True),
        ("0a", True),
        ("x" * 63, True),
        ("x" * 64, False),
        ("", False),
        ("123", False),
        ("-a", False),
        ("a-", False),
        ("A", False),
        ("a.b", False),
        ("a\n", False),
    ],
)
def test_a_label_is_a_dns_label_that_is_no_number(label, good):
    assert good is names.is_label(label)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a b", False),
        ("a!", False),
        ("A.b-c_d", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("ap-" + "x" * 22, False),
        ("", False),
        ("a\n", False),
    ],
)
def test_an_apps_name_has_letters_digits_and_three_signs(name, good):
    assert good is names.is_object_name(name)
