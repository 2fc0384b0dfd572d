# The four commands of CONTRIBUTING.md; CI calls the same. uv does the work, so nothing else is needed.
.PHONY: install check test docs

install:
	uv sync --group dev --group docs

check:
	uv run --group dev ruff format --check
	uv run --group dev ruff check
	uv run --group dev mypy

test:
	uv run --group dev pytest

# The variable silences a notice of the theme's authors about their next project.
docs:
	NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs build --strict
