"""The documentation as data: its pages, code blocks, commands, tables and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parent.parent
PAGES = (HOUSE / "README.md", *sorted((HOUSE / "docs").rglob("*.md")))

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")


@dataclass(frozen=True)
class Block:
    """A fenced code block. language and mark: the words after the fence, `bash run`."""

    page: Path
    line: int
    language: str
    mark: str
    body: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command that a page shows after `$`, comment and pipe taken off."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {shlex.join(self.words)}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start()) + 1, *_info(m["info"]), m["body"]) for m in _BLOCK.finditer(text)
    ]


def commands() -> Iterator[Command]:
    """Every command of every console block, those within `$(…)` too, and ours in the blocks that are run."""
    prompts = {"console": "$ ", "bash": "headrace "}
    for page in PAGES:
        for block in blocks(page):
            prompt = prompts.get(block.language)
            for line in block.body.splitlines() if prompt else ():
                if not prompt or not line.startswith(prompt):
                    continue
                text = line.removeprefix("$ ")
                for inner in _SUBSTITUTION.findall(text):
                    yield Command(page, tuple(shlex.split(inner)))
                words = shlex.split(_SUBSTITUTION.sub("X", text), comments=True)
                if "=" in words[0]:  # URL=$(…): what is within has been told
                    continue
                yield Command(page, tuple(words[: words.index("|")] if "|" in words else words))


def links(page: Path) -> list[str]:
    return [m["target"] for m in _LINK.finditer(_BLOCK.sub("", page.read_text(encoding="utf-8")))]


def cells(page: Path) -> list[list[str]]:
    """Every row of every table of the page."""
    lines = (line.strip() for line in page.read_text(encoding="utf-8").splitlines())
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def answers(block: Block) -> list[str]:
    """The lines that a runnable block is said to print, `…` standing for anything: the block right behind it."""
    found = blocks(block.page)
    after = found[found.index(block) + 1 :][:1]
    return after[0].body.splitlines() if after and (after[0].language, after[0].mark) == ("text", "answer") else []


def says(printed: str, line: str) -> bool:
    """Whether `line`, with `…` for anything, is somewhere in what was printed."""
    return re.search(".*".join(map(re.escape, line.split("…"))), printed) is not None


def _info(text: str) -> tuple[str, str]:
    language, _, mark = text.strip().partition(" ")
    return language, mark
