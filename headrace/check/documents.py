"""Manifests as they lie in files: read as the API server reads them, with the line of every field.

Called by `headrace.check.judge`. YAML with many documents, JSON, and lists of objects; a folder stands for all its
`.yaml`, `.yml` and `.json` files, `-` for standard input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from eventing.errors import Misconfigured
from headrace.local.api import api_request
from headrace.local.objects.object_errors import ObjectError

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file.

    line: where it begins, from 1. value: as the API server reads it, nulls left out. twice: paths of the fields that
    are given twice. lines: a field's path to its line. broken: why it cannot be read, "" where it can.
    """

    file: str
    line: int
    value: Any
    twice: tuple[str, ...] = ()
    lines: dict[str, int] = field(default_factory=dict)
    broken: str = ""

    def line_of(self, path: str) -> int:
        """The line of the field, or of the nearest one around it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.line


def read(sources: Sequence[str], stdin: BinaryIO) -> Iterator[Document]:
    """Every object of the files and folders, in order. Raises Misconfigured where one is not there, or holds none."""
    for source in sources:
        if source == STDIN:
            yield from parse("standard input", stdin.read())
            continue
        path = Path(source)
        files = _files(path) if path.is_dir() else [path]
        if not files:
            raise Misconfigured("MANIFEST", source, f"a folder with files that end in {', '.join(SUFFIXES)}")
        for file in files:
            try:
                body = file.read_bytes()
            except OSError as e:
                raise Misconfigured("MANIFEST", str(file), f"a file or folder that can be read ({e.strerror})") from e
            yield from parse(str(file), body)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def parse(file: str, body: bytes) -> Iterator[Document]:
    """Every object of one file; one that cannot be read ends it."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = body[: e.start].count(b"\n") + 1
        yield Document(file, line, None, broken=f"no UTF-8: the byte 0x{body[e.start]:02x}")
        return
    nodes = yaml.compose_all(text, Loader=yaml.SafeLoader)
    while True:
        try:
            node = next(nodes, None)
        except (yaml.YAMLError, RecursionError) as e:
            yield from _unparsed(file, text, e)
            return
        if node is None:
            return
        if not _is_empty(node):
            yield from _objects(file, text, node)


def _unparsed(file: str, text: str, error: yaml.YAMLError | RecursionError) -> Iterator[Document]:
    """What PyYAML does not read: JSON with tabs all the same, anything else as broken."""
    try:
        value, twice = api_request.decode(text.encode())
    except ObjectError:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "nested too deep"
        context = f", {error.context}" if getattr(error, "context", None) else ""  # type: ignore[union-attr]
        yield Document(file, mark.line + 1 if mark else 1, None, broken=f"neither YAML nor JSON: {problem}{context}")
        return
    yield from _expanded(Document(file, 1, api_request.without_nulls(value), tuple(twice)))


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _objects(file: str, text: str, node: yaml.Node) -> Iterator[Document]:
    start, line = node.start_mark, node.start_mark.line + 1
    # The whole first line, for its indentation counts; behind `---` there is none.
    begin = start.index - start.column if text[start.index - start.column : start.index].isspace() else start.index
    try:
        value, twice = api_request.decode(text[begin : node.end_mark.index].encode())
    except ObjectError as e:
        yield Document(file, line, None, broken=str(e))
        return
    lines = dict(_lines(node, "", frozenset()))
    yield from _expanded(Document(file, line, api_request.without_nulls(value), tuple(twice), lines))


def _expanded(document: Document) -> Iterator[Document]:
    """The document itself, or the objects of a List."""
    value = document.value
    items = value.get("items") if isinstance(value, dict) and value.get("kind") == "List" else None
    if not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        prefix = f"items[{index}]"
        lines = {p[len(prefix) + 1 :]: n for p, n in document.lines.items() if p.startswith(f"{prefix}.")}
        twice = tuple(p[len(prefix) + 1 :] for p in document.twice if p.startswith(f"{prefix}."))
        yield Document(document.file, document.line_of(prefix), item, twice, lines)


def _lines(node: yaml.Node, path: str, above: frozenset[int]) -> Iterator[tuple[str, int]]:
    if id(node) in above:  # an alias of what it stands in; decoding has refused it
        return
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{path}.{key.value}" if path else str(key.value)
            yield here, key.start_mark.line + 1
            yield from _lines(value, here, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = f"{path}[{index}]"
            yield here, item.start_mark.line + 1
            yield from _lines(item, here, above)
