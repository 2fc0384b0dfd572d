"""Names of older scripts: each works, or says what to write instead."""

import pytest

import homeport as modal
from homeport.sdk import alias, gone
from homeport.sdk.exception import DeprecationError


@pytest.mark.parametrize("name", sorted(gone.MODULE))
def test_an_old_name_of_the_module_says_what_to_write(name):
    with pytest.raises(DeprecationError, match=rf"`modal\.{name}` is gone: (use|declare) "):
        getattr(modal, name)


@pytest.mark.parametrize(("owner", "name"), sorted(gone.ATTRIBUTES))
def test_an_old_name_of_a_class_says_what_to_write(owner, name):
    cls = getattr(modal, owner)
    asked = modal.App("x") if owner == "App" else cls  # only its instances had them

    with pytest.raises(DeprecationError, match=f"{name}` is gone: use "):
        getattr(asked, name)


def test_a_chain_of_steps_says_so_too_and_hasattr_answers():
    image = modal.Image.debian_slim()

    with pytest.raises(DeprecationError, match="copy_local_dir` is gone: use `add_local_dir"):
        image.copy_local_dir(".", "/x")
    assert not hasattr(image, "copy_local_dir")
    assert not hasattr(modal.Image, "never_there")
    with pytest.raises(AttributeError, match="has no attribute 'never_there'"):
        _ = image.never_there


def test_the_module_of_functions_has_calls():
    assert alias.submodule("functions").FunctionCall is modal.FunctionCall
