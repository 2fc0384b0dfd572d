"""The pages of the reference, made from the code, and those that are files of the repository's root.

`hook.py` hands them to mkdocs at each build, and `python -m docs.generate DIRECTORY` writes them as files.
They are not in the repository, so they cannot be out of date. tests/docs/test_reference.py looks for every
public name, command, option, setting, kind of error and route in them.
"""

from collections.abc import Callable

from docs.generate import api, cli, errors, metrics, root, sdk, settings

#: Path below docs/ -> what makes the page's Markdown.
PAGES: dict[str, Callable[[], str]] = {
    "reference/sdk.md": sdk.page,
    "reference/cli.md": cli.page,
    "reference/settings.md": settings.page,
    "reference/api.md": api.page,
    "reference/errors.md": errors.page,
    "reference/metrics.md": metrics.page,
    "contributing/index.md": root.contributing,
    "contributing/architecture.md": root.architecture,
}
