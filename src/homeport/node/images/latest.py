"""Remembers the image that was asked for last, so that a server can begin with its zygote."""

import contextlib
from pathlib import Path

from homeport.contract import codec
from homeport.contract.image import Image


class Latest:
    """A file with one image. Nothing depends on it: if it cannot be read, the usual image is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = ""

    def read(self) -> Image:
        """Return the image that an earlier server has noted. Blocks."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return codec.loads(Image, self._path.read_text())
        return Image()

    def note(self, image: Image) -> None:
        """Write down the image, unless it is the same as before. Blocks."""
        if image.key == self._key:
            return
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.write_text(codec.dumps(image))
            fresh.replace(self._path)
            self._key = image.key
