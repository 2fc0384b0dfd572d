"""CONTRIBUTING.md and ARCHITECTURE.md as pages: they stand in the root, where people look for them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def contributing() -> str:
    """CONTRIBUTING.md, with its links as they are on the site."""
    text = (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/contributing/", "](")
    return text.replace("`ARCHITECTURE.md`", "[`ARCHITECTURE.md`](architecture.md)").replace(
        "`docs/decisions.md`", "[`docs/decisions.md`](../decisions.md)"
    )


def architecture() -> str:
    """ARCHITECTURE.md."""
    return (ROOT / "ARCHITECTURE.md").read_text()
