"""What a node has ready, as the choice of a node asks for it."""

import pytest

from homeport.contract.image import Image, Step
from homeport.contract.traffic import PoolKey
from homeport.control.fleet import stock as module
from homeport.control.fleet.stock import Stock

PACKAGES = Image(steps=(Step(name="pip_install", args={"packages": ["a"]}),))
OTHERS = Image(steps=(Step(name="pip_install", args={"packages": ["b"]}),))


def pool(function: str, parameters: str = "") -> PoolKey:
    return PoolKey("shop", function, "rv-1", parameters)


def test_an_image_without_packages_is_everywhere():
    assert Stock().has_image(Image())
    assert not Stock().has_image(PACKAGES)


def test_an_image_is_there_once_it_was_built_and_as_long_as_it_is_kept():
    stock = Stock()
    with stock.built(PACKAGES):
        assert (False, True) == (stock.has_image(PACKAGES), stock.is_building(PACKAGES))
        with stock.built(PACKAGES):  # a second deploy asks for it, too
            pass
        assert not stock.is_building(PACKAGES), "it is there already"
    assert (True, False) == (stock.has_built(PACKAGES.key), stock.is_building(PACKAGES))
    stock.keep([OTHERS])

    assert not stock.has_image(PACKAGES)
    assert not stock.is_building(PACKAGES)


def test_a_build_that_fails_leaves_no_image():
    stock = Stock()
    with pytest.raises(OSError, match="no room"), stock.built(PACKAGES):
        raise OSError("no room")

    assert (False, False) == (stock.has_image(PACKAGES), stock.is_building(PACKAGES))


def test_a_function_is_warm_whatever_its_parameters_until_it_is_forgotten():
    stock = Stock()
    stock.warm(pool("f", "size=1"))
    assert stock.is_warm(pool("f", "size=2"))
    assert not stock.is_warm(pool("g"))
    stock.warm(pool("g"))
    stock.cool(pool("f", "size=3"))
    assert (False, True) == (stock.is_warm(pool("f")), stock.is_warm(pool("g")))
    stock.cool()

    assert not stock.is_warm(pool("g"))


def test_the_functions_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST_WARM", 2)
    stock = Stock()
    for name in ("f", "g", "f", "h"):
        stock.warm(pool(name))

    assert [True, False, True] == [stock.is_warm(pool(name)) for name in ("f", "g", "h")]
