"""The labels of machines."""

import pytest

from homeport.contract import labels
from homeport.contract.errors import BadRequest


@pytest.mark.parametrize(
    "text",
    ["region", "Region=eu", "region=", "=eu", "region=a b", "region=eu\n", "a" * 70 + "=b", "-a=b", "a=-b"],
)  # fmt: skip
def test_a_text_that_is_no_label_is_refused_with_an_example_of_one(text):
    with pytest.raises(BadRequest, match="is not a label") as caught:
        labels.read(text)

    assert caught.value.hint


def test_labels_are_written_as_they_are_read():
    assert labels.read("zone=a1,example.com/disk=SSD") == labels.read(
        labels.written({"example.com/disk": "SSD", "zone": "a1"})
    )


def test_a_machine_has_few_labels():
    with pytest.raises(BadRequest, match="at most"):
        labels.check({f"a{number}": "b" for number in range(labels.MOST + 1)})
