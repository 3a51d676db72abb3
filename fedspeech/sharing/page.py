"""A page as a reader of its source sees it: words, attributes, comments, data and scripts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from html.parser import HTMLParser


class NotAPage(ValueError):
    """Markup that cannot be taken apart."""


@dataclass(frozen=True)
class Page:
    """What a page holds.

    Attributes:
      text: words, attributes, styles and comments, a line each.
      data: JSON for scripts and its name.
      scripts: SHA-256 of everything that runs, hex.
      tables: cells of every table, row by row, the header first.
    """

    text: str
    data: tuple[tuple[str, str], ...]
    scripts: tuple[str, ...]
    tables: tuple[list[list[str]], ...]

    @classmethod
    def read(cls, source: str) -> Page:
        """Takes a page apart.

        Raises:
          NotAPage: if a script does not end.
        """
        parser = _Parser()
        parser.feed(source)
        parser.close()
        if parser.inside is not None:
            raise NotAPage("a script does not end")
        return cls(
            "\n".join(parser.words), tuple(parser.data), tuple(parser.scripts),
            tuple(parser.tables),
        )  # fmt: skip


class _Parser(HTMLParser):
    """Collects what `Page` holds."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.data: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.inside: str | None = None  # name of JSON, or "" of what runs
        self._script: list[str] = []

    def updatepos(self, i: int, j: int) -> int:
        """Counts no lines: nobody asks for them, and they are a tenth of the time."""
        return j

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open(tag)
        given = {name: value or "" for name, value in attrs}
        self.words += [value for value in given.values() if value]
        runs = [value for name, value in given.items() if name.startswith("on")]
        if tag == "script" and "src" in given:
            runs.append(given["src"])
        self.scripts += [hashlib.sha256(code.encode()).hexdigest() for code in runs]
        if tag == "script":
            is_data = given.get("type") == "application/json"
            self.inside = given.get("id", "data") if is_data else ""
            self._script = []

    def _open(self, tag: str) -> None:
        if tag == "table":
            self.tables.append([])
        elif self.tables and tag == "tr":
            self.tables[-1].append([])
        elif self.tables and tag in {"td", "th"}:
            row = self.tables[-1] or [[]]
            self.tables[-1] = row
            row[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag != "script" or self.inside is None:
            return
        code = "".join(self._script)
        if self.inside:
            self.data.append((self.inside, code))
        elif code:
            self.scripts.append(hashlib.sha256(code.encode()).hexdigest())
        self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside is not None:
            self._script.append(data)
        elif data.strip():
            self.words.append(data.strip())
            if self.tables and self.tables[-1] and self.tables[-1][-1]:
                self.tables[-1][-1][-1] += data.strip()

    def handle_comment(self, data: str) -> None:
        self.words.append(data.strip())

    def handle_pi(self, data: str) -> None:
        self.words.append(data)

    def unknown_decl(self, data: str) -> None:
        self.words.append(data)
