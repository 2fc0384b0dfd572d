"""What a node has ready for its next containers: images, and zygotes of functions that ran there. In memory alone."""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator

from homeport.contract.image import Image
from homeport.contract.traffic import PoolKey

MOST_WARM = 1000  # how many functions are remembered that a node has run


class Stock:
    """One node's."""

    def __init__(self) -> None:
        self._images: set[str] = set()  # the keys of the images that were built there
        self._building: Counter[str] = Counter()  # those that are being built
        #: The bases of the pools that ran there; the one that became ready last is last.
        self._warm: dict[PoolKey, None] = {}

    def has_image(self, image: Image) -> bool:
        """Return whether the image was built there."""
        return not image.has_environment or image.key in self._images

    def has_built(self, key: str) -> bool:
        """Return whether the image with this key, which has an environment, was built there."""
        return key in self._images

    def is_building(self, image: Image) -> bool:
        """Return whether the image is being built there now."""
        return bool(self._building) and self._building[image.key] > 0 and not self.has_image(image)

    @contextlib.contextmanager
    def built(self, image: Image) -> Iterator[None]:
        """Have an image that is being built inside the block, and was built after it."""
        self._building[image.key] += 1
        try:
            yield
        finally:
            self._building[image.key] -= 1
            self._building += Counter()  # forget those at 0
        self._images.add(image.key)

    def keep(self, images: Collection[Image]) -> None:
        """Forget all other images."""
        self._images &= {image.key for image in images}

    def is_warm(self, pool: PoolKey) -> bool:
        """Return whether a container of the pool's function was ready there, so that it may have a zygote."""
        return pool.base in self._warm

    def warm(self, pool: PoolKey) -> None:
        """A container of the pool is ready there; beyond MOST_WARM, the function that was so longest ago is forgotten."""
        self._warm.pop(pool.base, None)
        self._warm[pool.base] = None
        if len(self._warm) > MOST_WARM:
            del self._warm[next(iter(self._warm))]

    def cool(self, pool: PoolKey | None = None) -> None:
        """What was kept for the pool, or for every pool, has ended."""
        if pool is None:
            self._warm.clear()
        else:
            self._warm.pop(pool.base, None)
