"""Speakers and bigram language models of scenarios with sentences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Alphabet, Corpus
from fedspeech.corpora.layouts import open_corpus, open_transcribed
from fedspeech.corpora.partition import AllBut, Partition, Phone, by_speaker, utterances_of
from fedspeech.corpora.sentences import JoinedWords
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticSpec, accent_shares
from fedspeech.errors import ArgumentRefused
from fedspeech.models.base import Base
from fedspeech.models.decoding import BigramLanguageModel
from fedspeech.seeds import stream
from fedspeech.synthesis.grammar import Grammar
from fedspeech.synthesis.names import NAMES, PEOPLE, PLACES, by_kind
from fedspeech.training.pretrain_sentences import public_grammar
from simulations.scenario.corpora import JoinedSentences, SentenceCorpus, TranscribedCorpus
from simulations.scenario.schema import Scenario

PUBLIC_SPEAKERS = 24
PUBLIC_SENTENCES = 8
PRIOR_SENTENCES = 4_000
LONGEST_FRAMES = 640
"""Frames of the longest transcribed sentence that is kept."""


def sentence_spec(
    scenario: Scenario, settings: SentenceCorpus, frontend: FrontendSpec
) -> SyntheticSpec:
    """Public speakers of one accent who know half the names; phones of all accents and names."""
    public = SpeakerGroup(
        name="public",
        num_speakers=PUBLIC_SPEAKERS,
        words=(),
        utterances_per_word=0,
        grammar=public_grammar(),
        num_sentences=PUBLIC_SENTENCES,
    )
    phones = replace(
        public,
        accents=accent_shares(settings.new_accent_share),
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
            # As phones speak: on the pre-training accent, validation would always choose the base.
            replace(phones, name="validation", num_speakers=settings.validation_speakers),
            replace(
                phones,
                name="federated",
                num_speakers=settings.federated_phones,
                num_sentences=settings.sentences_per_phone,
            ),
            replace(
                phones,
                name="held_out",
                num_speakers=settings.held_out_phones,
                num_sentences=settings.sentences_per_held_out_phone,
            ),
        ),
    )


def real_sentences(
    scenario: Scenario,
    settings: JoinedSentences | TranscribedCorpus,
    frontend: FrontendSpec,
    alphabet: Alphabet,
    pretraining_speakers: Collection[str] = (),
) -> tuple[Corpus, Partition]:
    """Recorded sentences and the groups of their speakers.

    Pre-training speakers of the base are public, and count among the public speakers asked for.

    Raises:
      ScenarioError: if no recordings are named.
      CorpusError: if they cannot be used.
    """
    if not settings.path:
        raise ArgumentRefused("this scenario needs recordings: give their folder, `corpus`")
    folder = Path(settings.path)
    if isinstance(settings, JoinedSentences):
        corpus: Corpus = JoinedWords(
            open_corpus(folder, max_unusable_share=settings.max_unusable_share),
            frontend,
            length=settings.words_per_sentence,
            most=settings.sentences_per_speaker,
            seed=scenario.seed,
        )
    else:
        corpus = open_transcribed(
            folder, frontend, alphabet=alphabet, max_unusable_share=settings.max_unusable_share
        )
    known = set(pretraining_speakers) & set(corpus.speakers)
    partition = by_speaker(
        corpus,
        seed=scenario.seed,
        held_out=AllBut(settings.federated_speakers),
        public=max(0, settings.public_speakers - len(known)),
        validation=settings.validation_speakers,
        min_clips=scenario.personalization.headline_shots + 2,
        pretraining_speakers=pretraining_speakers,
    )
    return corpus, partition


def long_sentences(base: Base) -> Base:
    """The base with clips of up to `LONGEST_FRAMES`; its hash differs."""
    frontend = base.built_in.frontend
    longest = LONGEST_FRAMES * frontend.hop_samples + frontend.window_samples
    frontend = replace(frontend, clip_samples=longest)
    return replace(base, encoder=replace(base.built_in, frontend=frontend))


def synthetic_prior(seed: int) -> BigramLanguageModel:
    """Counts words of sentences that the public grammar draws."""
    grammar, rng = public_grammar(), stream(seed, "prior")
    names = grammar.draw_contacts(rng)
    drawn = (grammar.draw_sentence(rng, names) for _ in range(PRIOR_SENTENCES))
    return BigramLanguageModel.of(drawn, by_kind(names))


def spoken_prior(public: Sequence[Phone]) -> BigramLanguageModel:
    """Counts words of what public speakers said."""
    return BigramLanguageModel.of(clip.word for clip in utterances_of(public))
