"""`fedspeech pretrain`: a base for any vocabulary, from the synthesiser or from public speakers."""

from __future__ import annotations

import re
from pathlib import Path

from fedspeech.corpora.corpus import SILENCE, Corpus, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import by_group
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.models.base import Base
from fedspeech.seeds import stream
from fedspeech.training.pretrain import pretrain, synthetic_base
from simulations.build import default_cache, public_spec
from simulations.progress import RunProgress
from simulations.scenario import Scenario

VALIDATION_SHARE = 0.1


def make_base(
    out: Path,
    *,
    words: str,
    corpus: Path | None,
    speakers: Path | None,
    seed: int,
    cache: Path | None,
) -> Base:
    """Trains a base and writes it.

    Args:
      out: the file to write, .safetensors.
      words: target words, separated by spaces or commas; empty: the ten default words, or with a
        corpus the words that its public speakers say.
      corpus: a folder of recordings; None: the synthesiser.
      speakers: with a corpus: a text file that names its public speakers, one a line.
      seed: of synthetic speakers, weights and order.
      cache: where synthetic bases are kept.

    Raises:
      ScenarioError: if the words or speakers cannot be used.
      CorpusError: if the recordings cannot.
    """
    if out.suffix != ".safetensors":
        raise ScenarioError(f"a base is written as a .safetensors file, got --out {out}")
    if (corpus is None) != (speakers is None):
        raise ScenarioError(
            "--corpus and --speakers belong together: a base learns from public speakers that are "
            "named, and they never become phones"
        )
    targets = tuple(word.lower() for word in re.split(r"[\s,]+", words) if word)
    command = f"fedspeech pretrain --seed {seed}" + (
        f" --words '{' '.join(targets)}'" * bool(words)
    )
    with RunProgress() as progress:
        try:
            with progress.stage("pretrain"):
                if corpus is None or speakers is None:
                    base = synthetic_base(
                        Vocabulary(targets or Scenario(name="pretrain").vocabulary),
                        seed=seed,
                        cache_dir=cache or default_cache(),
                        provenance={"command": command},
                        progress=lambda _, done, total: progress.advance(done, total),
                    )
                else:
                    base = _from_speakers(
                        open_corpus(corpus), speakers, targets, seed, command, progress
                    )
        except ValueError as error:
            raise ScenarioError(f"pretrain: {error}") from error
        base.save(out)
        progress.say(f"{out}: {out.stat().st_size / 1000:.0f} KB, SHA-256 {base.sha256}")
        for name, value in sorted(base.provenance.items()):
            progress.say(f"  {name}: {value}")
    return base


def _from_speakers(
    corpus: Corpus,
    speakers: Path,
    targets: tuple[str, ...],
    seed: int,
    command: str,
    progress: RunProgress,
) -> Base:
    """Trains on the named speakers, with synthetic unknown words and silence where they lack."""
    names = sorted({line.strip() for line in speakers.read_text().splitlines() if line.strip()})
    missing = sorted(set(names) - set(corpus.speakers))
    if missing or len(names) < 2:
        raise CorpusError(
            f"{speakers} must name at least two speakers of {corpus.name}, one a line; "
            + (f"it has no {', '.join(missing[:5])}" if missing else f"got {len(names)}")
        )
    stream(seed, "public speakers").shuffle(names)
    held_back = set(names[: max(1, round(VALIDATION_SHARE * len(names)))])
    clips = [clip for clip in corpus.utterances if clip.speaker_id in set(names)]
    said = {clip.word for clip in clips} - {SILENCE}
    vocabulary = Vocabulary(targets or tuple(sorted(said)))
    synthetic = SyntheticCorpus(public_spec(Scenario(name="pretrain", seed=seed), vocabulary))
    negatives = [
        clip for phone in by_group(synthetic, seed=seed).public for clip in phone.utterances
    ]
    return pretrain(
        JoinedCorpus(corpus, synthetic),
        [clip for clip in clips if clip.speaker_id not in held_back] + negatives,
        vocabulary,
        seed=seed,
        validation_utterances=[clip for clip in clips if clip.speaker_id in held_back],
        provenance={"command": f"{command} --corpus {corpus.name} --speakers {speakers.name}"},
        progress=lambda _, done, total: progress.advance(done, total),
    )
