"""The detection recipe of a streaming file, chosen on public streams, and how it does on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Corpus, Utterance
from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.corpora.partition import utterances_of
from fedspeech.corpora.stream_scenes import keyword_free, with_keywords
from fedspeech.evaluation.detection_recipe import DetectionRecipe, choose
from fedspeech.evaluation.streaming import ListeningCounts, ListeningRules
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.seeds import stream
from fedspeech.synthesis.lexicon import speakable
from simulations.artifacts.listening import Detecting, open_listener
from simulations.artifacts.model_listening import ModelListener
from simulations.artifacts.stream_evaluation import keyword_counts, keywords_of
from simulations.console import LOGGER
from simulations.results.exported import Listening
from simulations.scenario.schema import ListeningSettings
from simulations.setup.speakers import SpeakerSplit

if TYPE_CHECKING:  # LiteRT, which help does without
    from tflite_export.interpreter import TfliteModel
    from tflite_export.listening import Listener
    from tflite_export.micro.listening import MicroListener
    from tflite_export.weights import Trained

    Hearing = Listener | ModelListener | MicroListener

FloatArray = NDArray[np.float32]
Said = tuple[FloatArray, list[tuple[str, int, int]]]  # a stream, and words between which samples

RUN_KEYWORDS = 64
RUN_SECONDS = 360.0
QUIET_RATE = 10.0
"""False accepts per hour: one in the minutes that a run counts; fewer cannot be told apart."""


@dataclass(frozen=True, eq=False)
class PublicStreams:
    """What recipes are chosen on: synthesized scenes, and target words of public people or voices.

    Sounds are made once, however many files listen to them.

    Attributes:
      base: of the run.
      voices: of the run; its public speakers say the words, where they say any.
      lexicon: pronunciations that the run added.
      settings: rate and hours.
      seed: of the scenes.
      model: in torch, which listens for a file that answers whole clips; None: such a file gets no
        recipe.
    """

    base: Base
    voices: SpeakerSplit
    lexicon: Mapping[str, str]
    settings: ListeningSettings
    seed: int
    model: Trained | None = None

    def recipe(self, content: bytes) -> dict[str, Any] | None:
        """The recipe of a file, as the card takes it.

        None: the file does not stream words, or no threshold keeps to the rate, which is said.
        """
        from tflite_export.interpreter import TfliteModel
        from tflite_export.listening import Listener

        file = TfliteModel(content)
        hop = file.signatures.get("hop")
        if hop is not None and "samples" in hop.inputs and "present" not in hop.inputs:
            return self._written(self.chosen(Listener(file)))
        inputs = file.signatures["frames"].inputs if "frames" in file.signatures else {}
        if "log_mel" in inputs or "features" in inputs:
            from tflite_export.micro.listening import MicroListener

            return self._written(self.chosen(MicroListener(content)))
        encoder = self.base.encoder
        if self.model is None or not isinstance(encoder, ForeignEncoder):
            return None
        # Where zeros stand behind every clip, an hour of sound takes an hour.
        if encoder.declared.padding_samples or not encoder.streams_in_one_pass:
            return None
        if not _answers_as(file, self.model):
            return None
        return self._written(self.chosen(ModelListener(self.model)))

    def _written(self, recipe: DetectionRecipe | None) -> dict[str, Any] | None:
        if recipe is not None:
            return recipe.to_json(self.base.vocabulary.labels)
        LOGGER.warning(
            "no detection recipe: at no threshold has it at most %g false accepts per hour "
            "(listening.false_accepts_per_hour) on public streams",
            self.settings.false_accepts_per_hour,
        )
        return None

    def chosen(self, listener: Hearing) -> DetectionRecipe | None:
        """Streams every sound through a file and chooses; None: no threshold keeps to the rate."""
        said = "public speakers" if self._public else "synthesized voices"
        return choose(
            [_fresh(listener, sound) for sound in self._scenes],
            [
                (_fresh(listener, sound), keywords_of(listener, marks))
                for sound, marks in self._words
            ],
            hop_ms=listener.spec.hop_ms,
            rate=self.settings.false_accepts_per_hour,
            streams=f"{self.settings.hours:g} synthesized hours without a target word (running "
            f"speech, near misses, noise, music), and target words of {said}",
        )

    @cached_property
    def _scenes(self) -> list[FloatArray]:
        """Scenes without target words."""
        seed = int(stream(self.seed, "detection recipe").integers(2**31))
        seconds = 3600 * self.settings.hours
        made = negative_scenes(seconds, self._targets, seed, self.lexicon)
        return [scene.sound for scene in made]

    @cached_property
    def _words(self) -> list[Said]:
        """Streams with target words."""
        if self._public:
            return list(_after_context(self.base, self.voices.public_corpus, self._public))
        said = speakable(self._targets, self.lexicon)
        if not said:
            return []
        return [
            (sound, [(word.word, word.start, word.stop) for word in spoken])
            for sound, spoken in with_keywords(RUN_KEYWORDS, said, self.seed, self.lexicon)
        ]

    @cached_property
    def _public(self) -> list[Utterance]:
        """Target words of public speakers."""
        clips = utterances_of(self.voices.partition.public)
        return _evenly([clip for clip in clips if clip.word in self._targets])

    @property
    def _targets(self) -> tuple[str, ...]:
        return self.base.vocabulary.labels[:-NUM_NEGATIVE_LABELS]


def streaming_rates(file: Path, base: Base, voices: SpeakerSplit, seed: int) -> Listening:
    """Counts the errors of a run's streaming file by its recipe, and at a quieter threshold.

    Args:
      file: the streaming file, beside its card.
      base: of the run, which says how much left context a word has.
      voices: of the run; its held-out phones say the keywords.
      seed: of the synthesized scenes, which chose no recipe.
    """
    listener, detecting = open_listener(file), Detecting.of(file, None, None, None)
    rules, targets = detecting.rules, listener.labels[:-NUM_NEGATIVE_LABELS]
    counts = ListeningCounts.nothing()
    held_out = utterances_of(voices.partition.held_out)
    chosen = _evenly([clip for clip in held_out if clip.word in targets])
    for sound, marks in _after_context(base, voices.corpus, chosen):
        counts += keyword_counts(listener, sound, marks, rules)
    for scene in keyword_free(RUN_SECONDS, targets, seed):
        logits = _fresh(listener, scene)
        counts += ListeningCounts.without_keywords(logits, rules, listener.spec.hop_ms)
    point, quiet = counts.at(detecting.threshold), counts.at_most(QUIET_RATE)
    return Listening(
        file=file.name,
        threshold=point.threshold,
        keywords=point.keywords,
        rejected=point.rejected,
        hours=point.hours,
        false_accepts=point.false_accepts,
        quiet_rate=QUIET_RATE,
        quiet_threshold=quiet.threshold if quiet else None,
        quiet_rejected=quiet.rejected if quiet else None,
    )


def _answers_as(file: TfliteModel, model: Trained) -> bool:
    """Whether a file that answers whole clips has the logits of the model, on a clip of noise."""
    from tflite_export.evidence import reference_logits
    from tflite_export.foreign.family import INPUT, LOGIT_LIMIT, OUTPUT, SIGNATURE

    if SIGNATURE not in file.signatures:
        return False
    noise = stream(0, "clip of noise").normal(0, 0.1, (1, model.base.heard_samples))
    samples = noise.astype(np.float32)
    expected = reference_logits(model, samples)
    found = file.run(SIGNATURE, **{INPUT: samples})[OUTPUT]
    limit = LOGIT_LIMIT * max(1.0, float(np.abs(expected).max()))
    return float(np.abs(found - expected).max()) <= limit


def _after_context(base: Base, corpus: Corpus, clips: list[Utterance]) -> Iterator[Said]:
    """Target words after their left context, each with the word's place."""
    # A detection may come so much later than the word, and needs sound to come in.
    hop = base.encoder.hop_samples
    after = ListeningRules.every(1000 * hop / base.encoder.rate_hz).patience_hops * hop
    for clip, sound in zip(clips, base.heard(corpus, clips), strict=True):
        marks = [(clip.word, base.encoder.context_samples, len(sound))]
        yield np.pad(sound, (0, after)), marks


def _evenly(clips: list[Utterance]) -> list[Utterance]:
    """At most `RUN_KEYWORDS` of a list that goes phone by phone."""
    return clips[:: -(-len(clips) // RUN_KEYWORDS) or 1]


def _fresh(listener: Hearing, sound: FloatArray) -> FloatArray:
    """Logits of a stream of its own."""
    listener.reset()
    return listener.feed(sound)
