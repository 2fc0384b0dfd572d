"""Environments that images were built to."""

from homeport.contract.dataclass import dataclass
from homeport.contract.image import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList:
    """Environments that were built on this machine, the newest first."""

    images: tuple[Environment, ...]
