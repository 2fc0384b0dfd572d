"""Reads what a program cannot ask of a live object: comments, and signatures as they are written."""

import ast
import functools
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A parameter, a field or a key, with its type, its default and the comment beside or above it."""

    name: str
    annotation: str = ""
    default: str | None = None  # None: it has to be given
    comment: str = ""


def comments(text: str) -> dict[int, str]:
    """Line -> the comment at its end, or the lines above that begin with `#:`; linters' marks are left out.

    >>> comments("x = 1  # a number")
    {1: 'a number'}
    >>> comments("#: A number,\\n#: and no text.\\nx = 1")
    {3: 'A number, and no text.'}
    """
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        comment = token.string.lstrip("#: ").strip()
        if token.line[: token.start[1]].strip():
            if not comment.startswith(("noqa", "type:", "fmt:")):
                found[token.start[0]] = comment
        elif token.string.startswith("#:"):
            line = token.start[0]
            found[line + 1] = f"{found.pop(line, '')} {comment}".strip()
    return found


def parameters(function: Any) -> list[Named]:
    """A function's parameters but for `self`, `*args` and `**options`."""
    node, beside = _parsed(function)
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [
        Named(
            name=argument.arg,
            annotation=ast.unparse(argument.annotation) if argument.annotation else "",
            default=ast.unparse(default) if default is not None else None,
            comment=_beside(argument, beside),
        )
        for argument, default in pairs
        if argument.arg not in {"self", "cls"}
    ]


def signature(function: Any, name: str) -> str:
    """The function as one would call it: `name(a, *, b=1)`."""
    node, _ = _parsed(function)
    arguments = node.args
    if arguments.vararg is not None and "no_positional" in ast.unparse(node):
        arguments.vararg = None  # it is there for an error that says `use keywords`
    arguments.vararg = _unless_unused(arguments.vararg)
    arguments.kwarg = _unless_unused(arguments.kwarg)
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in [*every, arguments.vararg, arguments.kwarg]:
        if argument is not None:
            argument.annotation = None
    arguments.args = [a for a in arguments.args if a.arg not in {"self", "cls"}]
    return f"{name}({ast.unparse(arguments)})"


def keywords(function: Any) -> str:
    """The name of the TypedDict that a function takes as `**options: Unpack[…]`; empty without one."""
    node, _ = _parsed(function)
    kwarg = node.args.kwarg
    if kwarg is None or kwarg.annotation is None:
        return ""
    named = re.search(r"Unpack\[(?:\w+\.)*(\w+)\]", ast.unparse(kwarg.annotation))
    return named[1] if named else ""


def fields(cls: type) -> list[Named]:
    """The fields of a dataclass."""
    tree, beside = _parsed(cls)
    return [
        Named(
            name=node.target.id,
            annotation=ast.unparse(node.annotation),
            default=ast.unparse(node.value) if node.value is not None else None,
            comment=_beside(node, beside),
        )
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def keys(module: ModuleType, name: str) -> list[Named]:
    """The keys of a dictionary that a module defines, with the comment beside each."""
    text = Path(module.__file__ or "").read_text()
    beside = comments(text)
    for node in ast.parse(text).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
            and isinstance(node.value, ast.Dict)
        ):
            return [*_keys(node.value, beside)]
    raise LookupError(f"{module.__name__} has no dictionary {name}")


def summary(value: Any) -> str:
    """The docstring, with its indentation removed; empty where there is none."""
    return inspect.cleandoc(value.__doc__ or "")


def _keys(node: ast.Dict, beside: dict[int, str]) -> Iterator[Named]:
    for key, value in zip(node.keys, node.values, strict=True):
        assert isinstance(key, ast.Constant)
        yield Named(
            name=str(key.value),
            default=ast.unparse(value),
            comment=_beside(value, beside),
        )


def _beside(node: ast.expr | ast.stmt | ast.arg, beside: dict[int, str]) -> str:
    """The comment at the end of the first of a node's lines that has one."""
    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return next((beside[line] for line in lines if line in beside), "")


def _unless_unused(argument: ast.arg | None) -> ast.arg | None:
    return None if argument is not None and argument.arg.startswith("_") else argument


@functools.cache
def _text(value: Any) -> str:
    return textwrap.dedent(inspect.getsource(value))


def _parsed(value: Any) -> tuple[Any, dict[int, str]]:
    text = _text(value)
    return ast.parse(text).body[0], comments(text)
