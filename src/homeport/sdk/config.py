"""`modal.config`: what a script may ask of its configuration; homeport's own has other names."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

DEFAULTS: dict[str, Any] = {
    "async_warnings": False,
    "dev_suffix": "",
    "environment": "main",
    "force_build": False,
    "ignore_cache": False,
    "image_builder_version": "2025.06",
    "log_format": "STRING",
    "loglevel": "WARNING",
    "logs_timeout": 10,
    "serve_timeout": None,
    "server_url": "",
    "token_id": None,
    "token_secret": None,
    "traceback": False,
    "workspace": "",
}


class Config(Mapping[str, Any]):
    """The settings, read-only: `MODAL_…` or `HOMEPORT_…` of the environment, else a default."""

    def __getitem__(self, key: str) -> Any:
        default = DEFAULTS[key]
        for prefix in ("MODAL", "HOMEPORT"):
            text = os.environ.get(f"{prefix}_{key.upper()}")
            if text is not None:
                return text.lower() in ("1", "true") if isinstance(default, bool) else text
        return default

    def get(self, key: str, default: Any = None, use_env: bool = True) -> Any:  # noqa: ARG002
        """Return a setting; the default for an unknown one."""
        return self[key] if key in DEFAULTS else default

    def __iter__(self) -> Iterator[str]:
        return iter(DEFAULTS)

    def __len__(self) -> int:
        return len(DEFAULTS)

    def to_dict(self) -> dict[str, Any]:
        """Return all of them."""
        return dict(self)


config = Config()


def config_profiles() -> list[str]:
    """Return no names: homeport has no profiles."""
    return []


def __getattr__(name: str) -> Any:
    from homeport.sdk import pending

    return getattr(pending, name)
