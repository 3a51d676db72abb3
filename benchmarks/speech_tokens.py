"""What tokens of speech keep: the words, and the voice.

    python -m benchmarks.speech_tokens synthetic [--seed 1]
    python -m benchmarks.speech_tokens real --corpus DATA/dspspeech20_english_a

A codec is trained without and with noise in training, on clips of seen voices. Then a recurrent
attacker, of another architecture than the classifier that the codec was trained against, is trained
from scratch on tokens of the same clips (the semi-informed attacker) and asked whose other clips of
these voices are; a reader of the same architecture is asked for the words, of seen voices and of
voices that nothing was trained on. Log-mel stands beside. Intervals of 95 % are over speakers.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.sequence_attacker import one_hot, train_attacker
from fedspeech.corpora.corpus import Utterance
from fedspeech.corpora.layouts import open_corpus
from fedspeech.evaluation.metric import Metric
from fedspeech.evaluation.voice_privacy.bootstrap import measured
from fedspeech.evaluation.voice_privacy.measures import MEASURES
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.codec import Codec, CodecSpec
from fedspeech.seeds import stream
from fedspeech.training.codec import (
    TokenLesson,
    TokenTraining,
    clip_norm_of,
    token_lesson,
    train_codec,
)
from simulations.artifacts.token_files import spoken, voices
from simulations.setup.pretraining import named_base

SEEN, UNSEEN, TAKES = 48, 24, 8
TRAINED_SHARE = 5 / 8
PLAIN, NOISY = "without noise", "noise in training"
VARIANTS = {"both": (PLAIN, NOISY), "without": (PLAIN,), "with": (NOISY,)}
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Speech:
    """Clips of seen and unseen voices.

    Attributes:
      lesson: of all clips; speakers number the seen voices first.
      words: index of each clip's word, shape (n,).
      trained: clips of seen voices on which everything is trained, shape (n,).
      seen: other clips of them.
      unseen: clips of voices that nothing is trained on.
      vocabulary: the words.
      source: what the codec's file says of the corpus.
    """

    lesson: TokenLesson
    words: NDArray[np.int64]
    trained: Bools
    seen: Bools
    unseen: Bools
    vocabulary: tuple[str, ...]
    source: dict[str, str]

    @property
    def voices(self) -> int:
        """Seen voices."""
        return int(self.lesson.speakers[self.trained].max()) + 1

    def training(self) -> TokenLesson:
        """What the codec learns from."""
        of = self.lesson
        return TokenLesson(
            of.features[self.trained], of.teacher[self.trained], of.speakers[self.trained]
        )


def main(given: Sequence[str] | None = None) -> None:
    """Prints a line per figure; with --json one object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("speech", choices=("synthetic", "real"))
    parser.add_argument("--corpus", type=Path, help="recordings of words, for real speech")
    parser.add_argument("--base", help="the recognizer; default: the shipped base")
    parser.add_argument("--epochs", type=int, default=TokenTraining().epochs)
    parser.add_argument("--adversary", type=float, default=TokenTraining().adversary,
                        help="weight of the speaker classifier's reversed gradient")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", choices=("both", "without", "with"), default="both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(given)
    base = Base.load(default_base_path()) if options.base is None else named_base(options.base, "")
    if options.speech == "synthetic":
        speech = synthetic(base, options.seed)
    elif options.corpus is None:
        parser.error("real speech needs --corpus")
    else:
        speech = real(base, options.corpus, options.seed)
    training = TokenTraining(epochs=options.epochs, adversary=options.adversary)
    rows = []
    for row in figures(speech, training, options.seed, variants=VARIANTS[options.noise]):
        rows.append(row)
        if not options.json:
            print(line(row), flush=True)
    if options.json:
        print(json.dumps(rows))


def synthetic(base: Base, seed: int) -> Speech:
    """Synthesized voices of the pre-training accent, none of them the base's."""
    words = base.vocabulary.labels[:-2]
    corpus = voices(words, SEEN + UNSEEN, seed, TAKES)
    return speech_of(base, corpus, spoken(corpus.utterances), UNSEEN, seed)


def real(base: Base, folder: Path, seed: int) -> Speech:
    """Voices of recordings; a third is unseen. Words of fewer than 20 clips are left out."""
    corpus = open_corpus(folder, base.reading)
    clips = spoken(corpus.utterances)
    said = Counter(one.word for one in clips)
    kept = [one for one in clips if said[one.word] >= 20]
    who = Counter(one.speaker_id for one in kept)
    kept = [one for one in kept if who[one.speaker_id] >= 8]
    return speech_of(base, corpus, kept, len({one.speaker_id for one in kept}) // 3, seed)


def speech_of(
    base: Base, corpus: object, clips: Sequence[Utterance], unseen: int, seed: int
) -> Speech:
    """Deals voices into seen and unseen, and clips of the seen into trained and others."""
    rng = stream(seed, "speech tokens", "voices")
    names = list(rng.permutation(sorted({one.speaker_id for one in clips})))
    places = {name: place for place, name in enumerate(names)}
    who = np.array([places[one.speaker_id] for one in clips], dtype=np.int64)
    new = who >= len(names) - unseen
    vocabulary = tuple(sorted({one.word for one in clips}))
    words = np.array([vocabulary.index(one.word) for one in clips], dtype=np.int64)
    trained = np.zeros(len(clips), dtype=bool)
    for voice in range(len(names) - unseen):  # by word, so that no word is only in the test
        own = np.flatnonzero(who == voice)
        own = own[np.lexsort((rng.random(len(own)), words[own]))]
        trained[own[(np.arange(len(own)) * TRAINED_SHARE) % 1 < TRAINED_SHARE]] = True
    lesson = replace(token_lesson(base, corpus, clips), speakers=who)  # type: ignore[arg-type]
    source = {"corpus": corpus.name, "license": corpus.license, "teacher": base.sha256}  # type: ignore[attr-defined]
    return Speech(lesson, words, trained, ~trained & ~new, new, vocabulary, source)


def figures(
    speech: Speech, training: TokenTraining, seed: int, *, variants: Sequence[str]
) -> Iterator[dict[str, object]]:
    """All figures, one after the other."""
    lesson, spec = speech.training(), CodecSpec(teacher_features=speech.lesson.teacher.shape[2])
    features = speech.lesson.features
    for name in (PLAIN, NOISY) if NOISY in variants else (PLAIN,):
        codec = train_codec(lesson, training, spec, seed=seed, provenance=speech.source)
        clip_norm = clip_norm_of(codec, lesson.features)
        training = replace(training, clip_norm=clip_norm)  # of the one that comes next
        if name not in variants:
            continue
        codes = codec.encode(features)
        yield described(codec, codes, speech, name, clip_norm)
        first = one_hot(codes[..., :1], spec.entries)
        yield from kept(speech, f"first codebook, {name}", first, seed)
        # How often each code occurs, in no order: what a simpler attacker reads.
        counts = np.ascontiguousarray(first.mean(axis=1, keepdims=True))
        yield from kept(speech, f"counts of the first codebook, {name}", counts, seed)
        yield from kept(speech, f"all codebooks, {name}", one_hot(codes, spec.entries), seed)
    if PLAIN in variants:
        yield from kept(speech, "log-mel", features, seed)


def described(
    codec: Codec, codes: NDArray[np.int64], speech: Speech, name: str, clip_norm: float
) -> dict[str, object]:
    """The codec itself: size, rates, and what it cost."""
    tested = speech.lesson.features[speech.seen]
    errors = [
        float(
            np.abs(codec.decode(codes[speech.seen, :, :used])[:, : tested.shape[1]] - tested).mean()
        )
        for used in (1, codec.spec.codebooks)
    ]
    return {
        "of": f"codec, {name}", "parameters": codec.network.num_parameters,
        "cpu_seconds": codec.provenance["cpu_seconds"], "bits_per_second": codec.bit_rates(),
        "latent_l1_norm": clip_norm,
        "log_mel_error_first": errors[0], "log_mel_error_all": errors[1],
        "entries_used": [len(np.unique(codes[..., place])) for place in range(codes.shape[2])],
    }  # fmt: skip


def kept(speech: Speech, name: str, frames: Floats, seed: int) -> Iterator[dict[str, object]]:
    """Words of seen and unseen voices, and whose the clips of the seen are."""
    who, words = speech.lesson.speakers, speech.words
    of, labels = frames[speech.trained], len(speech.vocabulary)
    read = train_attacker(
        of, words[speech.trained], classes=labels, rng=stream(seed, "words", name)
    )
    for group, rows in (("seen voices", speech.seen), ("unseen voices", speech.unseen)):
        heard = read(frames[rows]).argmax(axis=1)
        given = {
            "said": [speech.vocabulary[word] for word in words[rows]],
            "heard": [speech.vocabulary[word] for word in heard],
            "speakers": who[rows].tolist(),
        }
        (found,) = measured(MEASURES["word-accuracy"].sample(given), stream(seed, "bootstrap"))
        yield row(name, f"words, {group}", found.metric, 1 / len(speech.vocabulary))
    attack = train_attacker(of, who[speech.trained], classes=speech.voices,
                            rng=stream(seed, "voices", name))  # fmt: skip
    scores = attack(frames[speech.seen]).astype(np.float64)
    given = {
        "scores": scores.tolist(),
        "probe_speakers": who[speech.seen].tolist(),
        "candidate_speakers": list(range(speech.voices)),
    }
    for measure in ("linkability", "rank"):
        for found in measured(MEASURES[measure].sample(given), stream(seed, "bootstrap")):
            metric = found.metric
            yield row(name, f"speaker of {speech.voices}, {metric.name}", metric, metric.by_chance)


def row(of: str, what: str, metric: Metric, by_chance: float | None) -> dict[str, object]:
    """A figure as plain data."""
    interval = metric.interval
    return {
        "of": of, "what": what, "value": metric.value, "by_chance": by_chance,
        "low": interval and interval.low, "high": interval and interval.high,
    }  # fmt: skip


def line(found: dict[str, object]) -> str:
    """A row as text."""
    if "what" not in found:
        return ", ".join(f"{name} {value}" for name, value in found.items())
    return (
        f"{found['of']}: {found['what']} {found['value']:.3f} [{found['low']:.3f}, "
        f"{found['high']:.3f}], by chance {found['by_chance']:.3f}"
    )


if __name__ == "__main__":
    main()
