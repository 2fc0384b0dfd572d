"""A Dockerfile's text becomes instructions with their flags, mounts and here-documents."""

import pytest

from homeport.contract import dockerfile
from homeport.contract.dockerfile import UnfitError


def test_flags_mounts_and_continued_lines_are_read():
    text = "RUN --mount=type=secret,id=a --mount=target=/m,from=b \\\n  # a comment\n  do it"
    (one,) = dockerfile.parse(text)

    assert ("RUN", "do it", 1) == (one.name, one.value, one.line)
    assert [
        {"type": "secret", "id": "a"},
        {"type": "bind", "target": "/m", "from": "b"},
    ] == one.mounts


def test_here_documents_belong_to_the_instruction_before_them():
    one, other = dockerfile.parse("COPY <<a <<'b' /x/\n1\na\n2\nb\nRUN <<-EOF\n\tcd /\n\tls\n\tEOF")

    assert (("a", "1\n"), ("b", "2\n")) == one.documents
    assert "cd /\nls\n" == dockerfile.script(other)


@pytest.mark.parametrize("line", ["RUN echo $((1<<2))", "RUN cat <<< word", "RUN a<<b"])
def test_a_text_that_only_looks_like_a_here_document_is_the_shells(line):
    (one,) = dockerfile.parse(line)

    assert () == one.documents
    assert line.removeprefix("RUN ") == dockerfile.script(one)


@pytest.mark.parametrize(
    ("text", "line"),
    [("FROM x\nFLY", 2), ("COPY a", 1), ("RUN --mount=type=cache true", 1), ("RUN <<A\n", 1)],
)
def test_the_line_that_cannot_be_carried_out_is_named(text, line):
    with pytest.raises(UnfitError, match=f"^line {line}: "):
        dockerfile.parse(text)
