"""Recordings from Python: opened, checked, and the corpora that are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedspeech.corpora.records import MAX_UNUSABLE_SHARE
from simulations.api.records import Records

if TYPE_CHECKING:
    from fedspeech.corpora.recorded import RecordedCorpus
    from simulations.setup.folder_check import FolderCheck


def open_corpus(
    folder: str | Path,
    *,
    sentences: bool = False,
    max_unusable_share: float = MAX_UNUSABLE_SHARE,
) -> RecordedCorpus:
    """Opens a folder of recordings in any layout that is known (docs/own-data.md).

        >>> import fedspeech as fs
        >>> fs.open_corpus("no such folder")
        Traceback (most recent call last):
        ...
        fedspeech.errors.CorpusError: no such folder: no such folder

    Every recording is decoded once and checked; clips are read again on demand, shape (n, 16000)
    for words of one second at 16 kHz, float32, full scale 1. `corpus.skipped` says what was left
    out, and why.

    Args:
      folder: of the recordings.
      sentences: whether clips are sentences, and not single words.
      max_unusable_share: of rows of its table that may lack a cell, be unreadable or repeat an id,
        from 0 to 1; above it the table is refused.

    Raises:
      CorpusError: if the folder has no layout or several, or nothing in it is usable.
    """
    from fedspeech.corpora.layouts import open_corpus as opened

    return opened(Path(folder), sentences=sentences, max_unusable_share=max_unusable_share)


def check_folder(
    folder: str | Path, *, max_unusable_share: float = MAX_UNUSABLE_SHARE
) -> FolderCheck:
    """Reads every recording in a folder and says what it is good for and what was left out.

        >>> import fedspeech as fs
        >>> fs.check_folder("no such folder")
        Traceback (most recent call last):
        ...
        fedspeech.errors.CorpusError: no such folder: no such folder

    Args:
      folder: of recordings.
      max_unusable_share: as in `open_corpus`.

    Raises:
      CorpusError: if the folder has no known layout, its table must be corrected, or nothing in it
        is usable.
    """
    from simulations.setup.folder_check import check_folder as check

    return check(Path(folder), max_unusable_share)


def known_corpora() -> Records:
    """Corpora that are known to work, with license, size, layout and source.

    >>> import fedspeech as fs
    >>> fs.known_corpora().columns
    ('name', 'license', 'size', 'layout', 'source')
    """
    from fedspeech.corpora.known import KNOWN

    return Records(
        {
            "name": known.name,
            "license": known.license,
            "size": known.size,
            "layout": known.layout,
            "source": known.source,
        }
        for known in KNOWN
    )
