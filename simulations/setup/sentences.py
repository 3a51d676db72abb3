"""What a scenario of sentences is built from: speakers, base, the prior that every phone has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Alphabet, Corpus, Utterance
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import AllBut, Partition, Phone, by_speaker
from fedspeech.corpora.sentences import JoinedWords
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticSpec
from fedspeech.corpora.transcribed import open_transcribed
from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.models.decoding import WordPrior
from fedspeech.seeds import stream
from fedspeech.synthesis.grammar import Grammar
from fedspeech.synthesis.names import NAMES, PEOPLE, PLACES, by_kind
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.pretrain import cached_base
from fedspeech.training.pretrain_sentences import (
    VERSION,
    SentenceSettings,
    pretrain_sentences,
    public_grammar,
    synthetic_sentence_base,
)
from simulations.scenario.schema import JoinedSentences, Scenario, SentenceCorpus, TranscribedCorpus

HEARD_ACCENT = "plain"
PUBLIC_SPEAKERS = 24
PUBLIC_SENTENCES = 8
PRIOR_SENTENCES = 4_000
BASE_SEED = 0
LONGEST_FRAMES = 640
"""Frames of the longest transcribed sentence that is kept."""


def sentence_spec(
    scenario: Scenario, settings: SentenceCorpus, frontend: FrontendSpec
) -> SyntheticSpec:
    """Public speakers of one accent who know half the names; phones of all accents and names.

    Those who validate speak as the phones do: a stage chosen on the accent that the base has heard
    would always be the base.
    """
    unheard = [accent for accent in ACCENTS if accent != HEARD_ACCENT]
    share = settings.unheard_accents
    accents = ((HEARD_ACCENT, 1 - share), *((accent, share / len(unheard)) for accent in unheard))
    public = SpeakerGroup(
        name="public",
        num_speakers=PUBLIC_SPEAKERS,
        words=(),
        takes_per_word=0,
        grammar=public_grammar(),
        num_sentences=PUBLIC_SENTENCES,
    )
    phones = replace(
        public,
        accents=accents,
        grammar=Grammar(
            people=tuple(PEOPLE),
            places=tuple(PLACES),
            contacts=settings.contacts,
            shares=(0.2, 0.05, 0.35, 0.4),
        ),
    )
    return SyntheticSpec(
        seed=scenario.seed,
        lexicon=tuple(NAMES.items()),
        frontend=frontend,
        groups=(
            public,
            replace(phones, name="validation", num_speakers=settings.validation_speakers),
            replace(
                phones,
                name="federated",
                num_speakers=settings.federated_phones,
                num_sentences=settings.sentences_per_phone,
            ),
            replace(
                phones,
                name="unseen",
                num_speakers=settings.unseen_phones,
                num_sentences=settings.sentences_per_unseen_phone,
            ),
        ),
    )


def sentence_base(scenario: Scenario) -> Base:
    """The frozen base of a file that the scenario names, before public speakers tune it.

    Raises:
      ScenarioError: if it cannot be read or is one for words.
    """
    source = scenario.base.source
    path = sentence_base_path() if source in ("shipped", "tuned") else Path(source)
    try:
        base = Base.load(path, scenario.base.sha256 or None)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"base.source: {error}") from error
    if not isinstance(base.vocabulary, Alphabet):
        raise ScenarioError(
            f"the base {source} spots words, the scenario wants sentences; "
            "`fedspeech pretrain --task asr` makes one"
        )
    return _cut_for(scenario, base)


def made_sentence_base(scenario: Scenario, cache: Path) -> Base:
    """The base of synthetic speakers, made here or found in the cache."""
    return _cut_for(scenario, synthetic_sentence_base(seed=BASE_SEED, cache_dir=cache))


def _cut_for(scenario: Scenario, base: Base) -> Base:
    """The base with clips as long as the corpus's sentences."""
    return long_sentences(base) if isinstance(scenario.corpus, TranscribedCorpus) else base


def real_sentences(
    scenario: Scenario,
    settings: JoinedSentences | TranscribedCorpus,
    frontend: FrontendSpec,
    taught: Collection[str] = (),
) -> tuple[Corpus, Partition]:
    """Real speech: the corpus, and who is where.

    Whoever taught the base is public, and counts among the public speakers that are asked for.

    Raises:
      ScenarioError: if no recordings are named.
      CorpusError: if they cannot be used.
    """
    if not settings.path:
        raise ScenarioError("this scenario needs recordings: give --corpus DIR")
    folder = Path(settings.path)
    if isinstance(settings, JoinedSentences):
        corpus: Corpus = JoinedWords(
            open_corpus(folder),
            frontend,
            length=settings.words_per_sentence,
            most=settings.sentences_per_speaker,
            seed=scenario.seed,
        )
    else:
        corpus = open_transcribed(folder, frontend)
    partition = by_speaker(
        corpus,
        seed=scenario.seed,
        unseen=AllBut(settings.federated_speakers),
        public=max(0, settings.public_speakers - len(set(taught) & set(corpus.speakers))),
        validation=settings.validation_speakers,
        min_clips=scenario.personalization.headline_takes + 2,
        taught=taught,
    )
    return corpus, partition


def long_sentences(base: Base) -> Base:
    """The same base for clips of up to `LONGEST_FRAMES`; its bytes, and so its name, are others."""
    longest = LONGEST_FRAMES * base.frontend.hop_samples + base.frontend.window_samples
    return replace(base, frontend=replace(base.frontend, clip_samples=longest))


def tuning(base: Base) -> SentenceSettings:
    """How a base goes on learning from public speakers."""
    return SentenceSettings(
        frontend=base.frontend, trunk=base.trunk.spec, epochs=30, learning_rate=1.5e-3
    )


def tuned_base(base: Base, corpus: Corpus, public: Sequence[Phone], cache: Path) -> Base:
    """Goes on teaching a base with the public speakers of a corpus, or finds it in the cache."""
    clips = [clip for phone in public for clip in phone.utterances]
    settings = tuning(base)
    prints = [corpus.fingerprint(clip) for clip in clips]
    recipe: list[str | int] = [
        "tuned",
        VERSION,
        torch.__version__,
        base.sha256,
        repr(settings),
        *prints,
    ]
    return cached_base(
        cache,
        recipe,
        lambda: pretrain_sentences(corpus, clips, seed=BASE_SEED, settings=settings, start=base),
    )


def word_prior(scenario: Scenario, public: Sequence[Phone]) -> WordPrior:
    """Counts words of public sentences: the grammar's own draws, or what public speakers said."""
    if isinstance(scenario.corpus, SentenceCorpus):
        grammar, rng = public_grammar(), stream(scenario.seed, "prior")
        names = grammar.draw_contacts(rng)
        drawn = (grammar.draw_sentence(rng, names) for _ in range(PRIOR_SENTENCES))
        return WordPrior.of(drawn, by_kind(names))
    return WordPrior.of(clip.word for phone in public for clip in phone.utterances)


def public_sentences(phones: Sequence[Phone], seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Sentences of public speakers: half for phones, half held back; the halves share nobody."""
    halves = []
    for part in (phones[::2], phones[1::2]):
        clips = [clip for phone in part for clip in phone.utterances]
        order = stream(seed, "public sentences").permutation(len(clips))
        halves.append([clips[index] for index in order])
    return halves[0], halves[1]
