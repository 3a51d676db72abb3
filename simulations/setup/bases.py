"""The frozen base of a run: read from a file, trained on synthetic speakers, or fine-tuned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.audio.spec import LOG_MEL
from fedspeech.corpora.corpus import Labels, Vocabulary
from fedspeech.corpora.partition import utterances_of
from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.encoder_spec import ENCODERS, front_end_of
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.models.exported.folder import assembled
from fedspeech.models.exported.speech_embedding import (
    DECLARED,
    LICENSE,
    LISTENING,
    PROVENANCE,
    speech_embedding,
)
from fedspeech.models.kws import KwsEncoder
from fedspeech.models.pooling import Pooling
from fedspeech.tasks.asr import Asr
from fedspeech.tasks.kws import Kws
from fedspeech.training.mining import Mining
from simulations.scenario.corpora import TranscribedCorpus
from simulations.scenario.schema import EMBEDDING, MADE, PROVIDED, TUNED, Scenario
from simulations.setup.heads import lesson_of, taught_head
from simulations.setup.listeners import taught_listener
from simulations.setup.sentences import long_sentences
from simulations.setup.speakers import SpeakerSplit

BASE_SEED = 0  # of bases that runs train: a run's seed draws phones, never the base
TASKS: Mapping[str, type[Kws] | type[Asr]] = {"kws": Kws, "asr": Asr}
"""By the word of scenarios: the two tasks that ship."""
PLACEHOLDER = ("word",)  # a layout has sizes, and the task's words follow


def layout_of(scenario: Scenario) -> Base:
    """A base with the sizes and the front end of the one that a scenario will have.

    It is the file that the scenario names; a base that the run trains has the shipped one's layout,
    but for an encoder of another size.

    Raises:
      ScenarioError: if it cannot be read.
    """
    source = scenario.base.source
    if source == PROVIDED:
        raise ScenarioError(
            f"base.source: a Python program handed over the base of {scenario.name}: run it from "
            "there, or name the file in its run folder, as in base.source = "
            '"RUN/base.safetensors"'
        )
    if source == EMBEDDING:
        return embedding_base(Vocabulary(PLACEHOLDER), listens=_listens(scenario))
    ships = source in ("shipped", MADE, TUNED)
    path = TASKS[scenario.task].shipped_base() if ships else Path(source)
    try:
        # A base that the run makes takes only sizes and front end from this file: a hash that the
        # scenario names is not of it.
        base = Base.load(path, scenario.base.sha256 or None if source != MADE else None)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"base.source: {error}") from error
    if base.per_clip and base.encoder.clip_samples != LOG_MEL.clip_samples:
        raise ScenarioError(
            f"base.source: words of a corpus are clips of {LOG_MEL.clip_samples} samples, and "
            f"this base hears {base.encoder.clip_samples} (encoder.clip_samples of its base.toml)"
        )
    if scenario.base.encoder != "standard":
        base = _resized(base, scenario.base.encoder)
    return _cut_for(scenario, base)


def base_of(scenario: Scenario, speakers: SpeakerSplit, layout: Base, cache: Path) -> Base:
    """The base that a scenario names, trained or fine-tuned if it says so, or from the cache.

    An encoder from elsewhere that came without a head gets one, fit on public speakers: from zeros
    federated rounds would have to find every word first.
    """
    if scenario.base.source == MADE:
        made = speakers.task.synthetic_base(
            seed=BASE_SEED, cache=cache, lexicon=scenario.lexicon, encoder=scenario.base.encoder,
            hard_negative_hours=scenario.base.hard_negative_hours,
        )  # fmt: skip
        return _cut_for(scenario, made)
    if scenario.base.source == TUNED:
        # Public speakers alone: what a base learns of private speech would stand in no epsilon.
        clips = utterances_of(speakers.partition.public)
        return speakers.task.taught_base(
            layout, speakers.corpus, clips, seed=BASE_SEED, cache=cache
        )
    base = layout
    if scenario.base.source == EMBEDDING:
        base = embedding_base(speakers.task.labels, listens=_listens(scenario))
    if base.pooling is not None and base.lacks_head:  # pooled frames spot words
        labels = Vocabulary(Kws.known(base))
        lesson = lesson_of(speakers, labels, seed=scenario.seed, lexicon=scenario.lexicon)
        given = {"head_seed": scenario.seed}
        if _listens(scenario):
            hours, lexicon = scenario.base.hard_negative_hours, scenario.lexicon
            return taught_listener(base, lesson, cache, given, hours=hours, lexicon=lexicon)
        return taught_head(base, lesson, cache, given)
    return base


def _listens(scenario: Scenario) -> bool:
    """Whether a head is fit for a stream, by mining hard negatives."""
    return scenario.base.hard_negative_hours > 0


def embedding_base(vocabulary: Labels, *, listens: bool = False) -> Base:
    """Google's speech embedding without a head.

    Args:
      vocabulary: its labels.
      listens: whether it is for a wake word: then a network will pool, whose layers are zeros here.

    Raises:
      FedspeechError: if the package that holds it is not installed, naming the extra.
    """
    encoder = speech_embedding(LISTENING if listens else DECLARED)
    return Base.of_parts(
        assembled(
            encoder=encoder,
            vocabulary=vocabulary,
            license=LICENSE,
            speakers=(),
            provenance=PROVENANCE,
            head=_layout(encoder).to_arrays() if listens else None,
        )
    )


def _layout(encoder: ForeignEncoder) -> Pooling:
    """A network of the sizes that one which is fit has; it answers zeros."""
    first, second = Mining().widths
    inputs = encoder.num_windows * encoder.num_features

    def zeros(*shape: int) -> NDArray[np.float32]:
        return np.zeros(shape, dtype=np.float32)

    return Pooling(
        mean=zeros(second),
        matrix=np.eye(second, dtype=np.float32),
        layers=((zeros(first, inputs), zeros(first)), (zeros(second, first), zeros(second))),
    )


def _resized(base: Base, name: str) -> Base:
    """A layout with another encoder of `ENCODERS`; its weights say nothing."""
    spec = ENCODERS[name]
    head = np.zeros((len(base.head_bias), spec.features), dtype=np.float32)
    with torch.random.fork_rng(devices=[]):  # initial weights draw on torch's own generator
        network = KwsEncoder(spec)
    frontend = front_end_of(name)
    encoder = dataclasses.replace(base.built_in, network=network, frontend=frontend)
    return dataclasses.replace(base, encoder=encoder, head_weight=head)


def _cut_for(scenario: Scenario, base: Base) -> Base:
    """The base with clips as long as the corpus's sentences; a foreign encoder has its own."""
    built_in = isinstance(base.encoder, BuiltInEncoder)
    longer = built_in and isinstance(scenario.corpus, TranscribedCorpus)
    return long_sentences(base) if longer else base
