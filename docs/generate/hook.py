"""mkdocs calls this at each build: it adds the generated pages to the written ones."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    sys.path.insert(0, str(Path(__file__).parents[2]))  # mkdocs puts it back after the import
    from docs.generate import PAGES

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files
