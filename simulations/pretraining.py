"""`fedspeech pretrain`: a base for any vocabulary, from the synthesiser or from public speakers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fedspeech.corpora.corpus import SILENCE, Corpus, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import by_group
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.corpora.transcribed import open_transcribed
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.seeds import stream
from fedspeech.training.pretrain import pretrain, synthetic_base
from fedspeech.training.pretrain_sentences import pretrain_sentences, synthetic_sentence_base
from simulations.build import cache_folder, public_spec
from simulations.progress import RunProgress
from simulations.scenario import Scenario
from simulations.sentences import long_sentences, tuning

VALIDATION_SHARE = 0.1


def make_base(
    out: Path,
    *,
    words: str,
    corpus: Path | None,
    speakers: Path | None,
    seed: int,
    cache: Path | None,
    task: str = "kws",
    lexicon: Mapping[str, str] | None = None,
) -> Base:
    """Trains a base and writes it.

    Args:
      out: the file to write, .safetensors.
      task: "kws" for words, "asr" for sentences.
      words: target words, separated by spaces or commas; empty: the ten default words, or with a
        corpus the words that its public speakers say.
      corpus: a folder of recordings; None: the synthesiser.
      speakers: with a corpus: a text file that names its public speakers, one a line.
      seed: of synthetic speakers, weights and order.
      cache: where synthetic bases are kept.
      lexicon: words that are not built in to ARPAbet strings.

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
    if task not in ("kws", "asr"):
        raise ScenarioError(f"--task must be kws or asr, got {task!r}")
    if task == "asr":
        if words:
            raise ScenarioError("--words belongs to --task kws: sentences are spelled, not listed")
        return _make_sentence_base(out, corpus, speakers, seed, cache_folder(cache))
    targets = tuple(word.lower() for word in re.split(r"[\s,]+", words) if word)
    defaults = () if targets or corpus else tuple(Scenario(name="pretrain").vocabulary)
    command = f"fedspeech pretrain --seed {seed}" + (
        f" --words '{' '.join(targets)}'" * bool(words)
    )
    command += "".join(
        f" --lexicon '{word}={spelled}'" for word, spelled in (lexicon or {}).items()
    )
    with RunProgress() as progress:
        if defaults:
            progress.say(f"words: {' '.join(defaults)}, since --words names no others")
        try:
            with progress.stage("pretrain"):
                if corpus is None or speakers is None:
                    base = synthetic_base(
                        Vocabulary(targets or defaults),
                        seed=seed,
                        cache_dir=cache_folder(cache),
                        lexicon=lexicon,
                        provenance={"command": command},
                        progress=lambda part, done, total: progress.advance(done, total, part),
                    )
                else:
                    base = _from_speakers(
                        open_corpus(corpus), speakers, targets, seed, command, progress
                    )
        except ValueError as error:
            raise ScenarioError(f"pretrain: {error}") from error
        _write(base, out, progress)
    return base


def _make_sentence_base(
    out: Path, corpus: Path | None, speakers: Path | None, seed: int, cache: Path
) -> Base:
    """Makes a base for sentences: synthetic, or the shipped one taught by named public speakers."""
    command = f"fedspeech pretrain --task asr --seed {seed}"
    with RunProgress() as progress:
        try:
            with progress.stage("pretrain"):
                if corpus is None or speakers is None:
                    base = synthetic_sentence_base(
                        seed=seed,
                        cache_dir=cache,
                        provenance={"command": command},
                        progress=lambda part, done, total: progress.advance(done, total, part),
                    )
                else:
                    start = long_sentences(Base.load(sentence_base_path()))
                    opened = open_transcribed(corpus, start.frontend)
                    names = _named(opened, speakers)
                    held_back = set(names[: max(1, round(VALIDATION_SHARE * len(names)))])
                    clips = [c for c in opened.utterances if c.speaker_id in set(names)]
                    base = pretrain_sentences(
                        opened,
                        [clip for clip in clips if clip.speaker_id not in held_back],
                        seed=seed,
                        settings=tuning(start),
                        start=start,
                        validation_utterances=[c for c in clips if c.speaker_id in held_back],
                        provenance={
                            "command": f"{command} --corpus {opened.name}"
                            f" --speakers {speakers.name}"
                        },
                        progress=lambda part, done, total: progress.advance(done, total, part),
                    )
        except ValueError as error:
            raise ScenarioError(f"pretrain: {error}") from error
        _write(base, out, progress)
    return base


def _named(corpus: Corpus, speakers: Path) -> list[str]:
    """The public speakers that a file names, one a line."""
    names = sorted({line.strip() for line in speakers.read_text().splitlines() if line.strip()})
    missing = sorted(set(names) - set(corpus.speakers))
    if missing or len(names) < 2:
        raise CorpusError(
            f"{speakers} must name at least two speakers of {corpus.name}, one a line; "
            + (f"it has no {', '.join(missing[:5])}" if missing else f"got {len(names)}")
        )
    return names


def _write(base: Base, out: Path, progress: RunProgress) -> None:
    """Writes the file and says what is known of the base."""
    base.save(out)
    progress.say(f"{out}: {out.stat().st_size / 1000:.0f} KB, SHA-256 {base.sha256}")
    for name, value in sorted(base.provenance.items()):
        progress.say(f"  {name}: {value}")


def _from_speakers(
    corpus: Corpus,
    speakers: Path,
    targets: tuple[str, ...],
    seed: int,
    command: str,
    progress: RunProgress,
) -> Base:
    """Trains on the named speakers, with synthetic unknown words and silence where they lack."""
    names = _named(corpus, speakers)
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
        progress=lambda part, done, total: progress.advance(done, total, part),
    )
