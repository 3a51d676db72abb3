"""Pages as a notebook shows them."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

FRAME_HEIGHT_PX = 700


@dataclass(frozen=True)
class Page:
    """A page of HTML on disk, such as a report. In a notebook it shows inline.

    Attributes:
      path: the file; it needs nothing beside it and no network.
    """

    path: Path

    def __fspath__(self) -> str:
        """The path, so that the page can be opened or copied as a file."""
        return str(self.path)

    def __str__(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def html(self) -> str:
        """The page's text."""
        return self.path.read_text("utf-8")

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its styles and scripts stay in it."""
        # Allowed scripts and nothing else: what the page may do, its own policy says.
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" width="100%" '
            f'height="{FRAME_HEIGHT_PX}" style="border: 1px solid #ccc" '
            f'title="{html.escape(self.path.name)}"></iframe>'
        )
