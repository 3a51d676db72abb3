"""The published layout of Speech Commands v0.01 and v0.02 (Warden 2018, arXiv:1804.03209).

yes/0132a06d_nohash_0.wav       word / speaker _nohash_ take
_background_noise_/tap.wav      long recordings, cut into clips of silence
validation_list.txt             paths of the official validation speakers' clips
testing_list.txt                paths of the official testing speakers' clips
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora.corpus import Skipped, Speaker, Utterance
from fedspeech.corpora.files import AUDIO_SUFFIXES, Folder
from fedspeech.corpora.identity import Persons, plain
from fedspeech.corpora.noise import NOISE_FOLDER, read_noise
from fedspeech.corpora.recorded import Entry, File, RecordedCorpus
from fedspeech.errors import CorpusError

_CLIP_NAME = re.compile(r"(?P<speaker>[^_/]+)_nohash_(?P<take>\d+)")


def has_layout(folder: Path) -> bool:
    """Whether a folder has at least one `<word>/<speaker>_nohash_<k>.wav`."""
    return next(folder.glob("*/*_nohash_*.wav"), None) is not None


class SpeechCommandsCorpus(RecordedCorpus):
    """Speech Commands as it is published, or any folder arranged in the same way.

    Attributes:
      official: speaker id to "validation" or "testing", by the published lists; all others are
        training speakers. A speaker with a clip in the testing list is a testing speaker.
    """

    def __init__(self, folder: Path, spec: FrontendSpec = LOG_MEL) -> None:
        """Lists the folder, which has one subfolder per word, and checks every recording.

        Raises:
          CorpusError: if not one recording is usable.
        """
        skipped: list[Skipped] = []
        listed = list(_entries(folder, skipped))
        persons = Persons(entry.utterance.speaker_id for entry in listed)
        entries = []
        for entry in listed:
            speaker_id = persons.of[entry.utterance.speaker_id]
            utterance = replace(entry.utterance, speaker_id=speaker_id)
            entries.append(replace(entry, utterance=utterance))
        speakers = {name: Speaker(name) for name in persons.of.values()}
        if (folder / NOISE_FOLDER).is_dir():
            noise = read_noise(folder, spec)
            skipped += [
                Skipped(f"{NOISE_FOLDER}/{skip.where}", skip.reason) for skip in noise.skipped
            ]
            entries += noise.silences(spec)
            speakers |= noise.speakers
        self.official = {
            persons.of.get(name, name): part for name, part in _official(folder).items()
        }
        super().__init__(
            layout="Speech Commands",
            folder=Folder(folder),
            speakers=speakers,
            persons=persons,
            entries=entries,
            skipped=skipped,
            spec=spec,
        )


def _entries(folder: Path, skipped: list[Skipped]) -> Iterator[Entry]:
    """Yields the clips of every word folder by name; sound files of another name are skipped."""
    for word_folder in sorted(folder.iterdir()):
        if not word_folder.is_dir() or word_folder.name.startswith(("_", ".")):
            continue
        for path in sorted(word_folder.iterdir()):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            file = f"{word_folder.name}/{path.name}"
            match = _CLIP_NAME.fullmatch(path.stem)
            if match is None:
                skipped.append(Skipped(file, "not named <speaker>_nohash_<k>.wav: " + path.name))
                continue
            utterance = Utterance(file, match["speaker"], plain(word_folder.name).lower())
            yield Entry(utterance, File(file))


def _official(folder: Path) -> dict[str, str]:
    """Reads the published lists into speaker id -> part."""
    official: dict[str, str] = {}
    for part in ("validation", "testing"):  # testing last: it wins
        path = folder / f"{part}_list.txt"
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            match = _CLIP_NAME.fullmatch(Path(line.strip()).stem)
            if match is not None:
                official[match["speaker"]] = part
            elif line.strip():
                raise CorpusError(
                    f"{path}, line {number}: expected <word>/<speaker>_nohash_<k>.wav, "
                    f"got {line.strip()[:80]!r}"
                )
    return official
