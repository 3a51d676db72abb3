"""A task that ships nowhere: which of two tones. Everything that it is stands in this file."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import NamedLabels, Speaker, Utterance
from fedspeech.corpora.partition import by_group
from fedspeech.corpora.shots import split_shots
from fedspeech.evaluation.metric import Metric, Section
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder
from fedspeech.seeds import stream

TONES = ("low", "high")
HERTZ = {"low": 300.0, "high": 900.0}
GROUPS = {"public": 6, "validation": 4, "federated": 12, "held_out": 3}
CLIPS = 6  # of each tone


class ToneCorpus:
    """People who whistle, each at a pitch of his own, in noise."""

    name, license, skipped = "tones", "CC0-1.0", ()

    def __init__(self):
        self.groups = {
            group: [f"{group}-{number}" for number in range(count)]
            for group, count in GROUPS.items()
        }
        everybody = [name for group in self.groups.values() for name in group]
        self.speakers = {name: Speaker(name, {"room": name[-1]}) for name in everybody}
        self.utterances = [
            Utterance(f"{name} {tone} {take}", name, tone)
            for name in everybody
            for tone in TONES
            for take in range(CLIPS)
        ]

    def fingerprint(self, utterance):
        return utterance.utterance_id.encode().hex()

    def waveforms(self, utterances):
        seconds = np.arange(FrontendSpec().clip_samples) / FrontendSpec().rate_hz
        clips = []
        for clip in utterances:
            rng = stream(0, "tone", clip.utterance_id)
            pitch = stream(0, "pitch", clip.speaker_id).uniform(0.9, 1.1)
            tone = 0.1 * np.sin(2 * np.pi * pitch * HERTZ[clip.word] * seconds)
            clips.append(tone + rng.normal(0, 0.02, len(seconds)))
        return np.array(clips, dtype=np.float32).reshape(len(utterances), len(seconds))


@dataclass(frozen=True)
class Tones:
    """Low or high; nobody says anything else."""

    name: ClassVar[str] = "tones"
    adapters: ClassVar[tuple[str, ...]] = ("head",)
    labels: NamedLabels = field(default_factory=lambda: NamedLabels(TONES))
    negatives: str = ""

    def split(self, phone, count, *, seed, reserve):
        return split_shots(phone, TONES, count, seed=seed, reserve=reserve)

    def public_clips(self, phones, recorded, taught, seed):
        clips = [clip for phone in phones for clip in phone.utterances]
        return clips[::2], clips[1::2]

    def evaluation_negatives(self, judged, validation):
        return validation.take(np.arange(0))

    def check_base(self, base):
        if base.vocabulary != self.labels:
            raise ValueError("it knows no tones")

    def evaluation(self, scored):
        return ToneEvaluation(scored.adapter)

    def folds(self, labels, count):
        return [np.arange(len(labels))[fold::count] for fold in range(min(count, len(labels)))]

    def coverage(self, labels):
        return len(np.unique(labels)) / len(TONES)

    def mistakes(self, logits, embeddings, labels):
        return (logits.argmax(dim=1) != labels).double()

    def false_accepts(self, logits):
        return 0.0


class ToneEvaluation:
    """Counts tones that are taken for the other one: (wrong, all) of each phone."""

    error, accuracy, shots, each_round = "tones mistaken", "tones told apart", "own tones", None

    def __init__(self, adapter):
        self.adapter = adapter

    def mistakes(self, vector, clips):
        logits = score_clips(self.adapter, vector[np.newaxis], clips.embeddings)[0]
        return (logits.argmax(axis=1) != clips.labels).astype(np.int64)

    def validation(self, vector, clips):
        wrong = float(self.mistakes(vector, clips).mean())
        return 1 - wrong, wrong

    def validation_error(self, vector, clips):
        return float(self.mistakes(vector, clips).mean())

    def score(self, vector, phone):
        found = self.mistakes(vector, phone.judged)
        return np.array([found.sum(), len(found)])

    def error_on(self, scores):
        return "whistles"

    def error_metric(self, scores, model, *, variant="", segment=None):
        wrong, whole = np.sum(scores, axis=0)
        return Metric(
            name=self.error, value=float(wrong / whole), lower_is_better=True, model=model,
            variant=variant, segment=segment, phones=len(scores), counted=int(whole), headline=True,
        )  # fmt: skip

    def error_rates(self, scores, times):
        wrong, whole = (times @ np.array(scores)).T
        return wrong / whole

    def sections(self, scores, vectors, phones):
        yield Section(
            key="pitch", title="Pitch of the whistles",
            metrics=(Metric(name="hertz of a high tone", value=900.0, unit="number"),),
        )  # fmt: skip

    def heard_words(self, vector, clips):
        return None

    def weak_labels(self, vector, phone, shots):
        return None


def tone_base():
    """An encoder that nobody trained, and a head that knows nothing: random features do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = KwsEncoder(EncoderSpec())
        encoder.output.conv.weight.data *= 40.0  # features of the size that a trained one has
    frontend, features = FrontendSpec(), encoder.spec.features
    return Base(
        encoder=BuiltInEncoder(
            network=encoder,
            frontend=frontend,
            feature_mean=np.full(frontend.num_features, -14.8, np.float32),
            feature_std=np.full(frontend.num_features, 3.0, np.float32),
        ),
        vocabulary=NamedLabels(TONES),
        head_weight=np.zeros((2, features), np.float32),
        head_bias=np.zeros(2, np.float32),
        provenance={"command": "none"},
    )


def tone_speakers():
    """Who whistles, in which role."""
    from simulations.setup.speakers import SpeakerSplit

    corpus = ToneCorpus()
    partition = by_group(corpus, seed=1)
    return SpeakerSplit(Tones(), corpus, corpus, partition.public, partition)
