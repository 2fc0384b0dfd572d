"""Keys of a Dict: equal keys are equal bytes."""

import pickle
import subprocess
import sys

import pytest

from homeport.sdk import keys
from homeport.sdk.exception import SerializationError


@pytest.mark.parametrize(
    "make",
    [
        lambda word: word,
        lambda word: (word, "ab", "ab"),
        lambda word: ((word, 1), (word, 1)),
        lambda word: (word.encode(), None, True, 1.5),
    ],
)
def test_equal_keys_are_equal_bytes(make):
    one, other = make("ab"), make("".join(list("ab")))

    assert one == other
    assert keys.pack(one) == keys.pack(other)
    assert one == pickle.loads(keys.pack(one))


def test_keys_are_the_same_in_another_process():
    code = "from homeport.sdk import keys; print(keys.pack(('a', 'a', 7)).hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert keys.pack(("a", "a", 7)).hex() == other.stdout.strip()


def test_an_object_that_cannot_be_a_key_is_an_error():
    with pytest.raises(TypeError, match="unhashable"):
        keys.pack([1])
    with pytest.raises(SerializationError, match="cannot be pickled"):
        keys.pack(lambda: 1)
