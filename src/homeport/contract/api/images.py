"""Environments that images were built to."""

from homeport.contract.dataclass import dataclass
from homeport.contract.image import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList:
    """Environments that were built on this machine, the newest first."""

    images: tuple[Environment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLog:
    """What the build of an image's layer has told."""

    key: str
    text: str  # the last 2,000 lines; empty: it was built by an earlier homeport
