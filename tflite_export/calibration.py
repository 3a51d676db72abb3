"""Which clips a full-integer file is calibrated on, and what ranges its layers have on them.

The clips are the base's own public training speakers: what it was trained on, and nobody who is a
phone. Of the base that ships, they stand as a committed list of synthesizer recipes,
`calibration_clips.json`; of any other base they are drawn by the base's hash, and the export writes
down their ids and hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
from fedspeech.errors import ExportRefused
from fedspeech.models.base import Base
from fedspeech.models.folded import FoldedConv
from fedspeech.seeds import stream
from fedspeech.tasks.kws import Kws
from tflite_export.arrays import Network, convolution_steps, run_encoder
from tflite_export.evidence import log_mel

CALIBRATION_CLIPS = 400
CLIPS_WITHIN = 0.95
"""Share of calibration clips that have no value above a layer's range, or none below it."""

LEAST_OWN_CLIPS = 100
COMMITTED_FILE = Path(__file__).with_name("calibration_clips.json")


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """A representative dataset. Printing it shows no waveform.

    Attributes:
      corpus, license: name and license of the corpus that the clips are of.
      clips: (utterance id, hex SHA-256 of what determines its waveform) pairs.
      waveforms: shape (n, heard_samples), float32, as `Base.heard` gives them.
      recorded_at_hz: sample rate to clips that sound as if recorded at it; see `recorded_at`.
    """

    corpus: str
    license: str
    clips: tuple[tuple[str, str], ...] = field(repr=False)
    waveforms: NDArray[np.float32] = field(repr=False)
    recorded_at_hz: Mapping[int, int] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over the list of clips."""
        return hashlib.sha256(json.dumps(self.clips).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What the card says of it: everything but the list, which stands beside."""
        return {
            "corpus": self.corpus,
            "license": self.license,
            "clips": len(self.clips),
            "clips_sha256": self.sha256,
            "recorded_at_hz": {str(rate): count for rate, count in self.recorded_at_hz.items()},
        }

    def recorded_at(self, rates_hz: Mapping[int, int], rate_hz: int) -> Calibration:
        """The same clips as they would sound if they had been recorded like a corpus.

        Recordings at 8 kHz have nothing above 4 kHz: ranges from wideband clips are too wide for
        them, and a full-integer file loses a hundredth of its accuracy.

        Args:
          rates_hz: sample rate of the corpus's files to how many of them have it.
          rate_hz: of the waveforms; files at a higher rate sound like these.
        """
        total = sum(rates_hz.values())
        # Clips get the corpus's rates in its own proportions, evenly over the list and without a
        # coin.
        below = np.repeat(sorted(rates_hz), [rates_hz[rate] for rate in sorted(rates_hz)])
        drawn = below[np.arange(len(self.clips)) * total // len(self.clips)]
        waveforms = self.waveforms.copy()
        for row, rate in zip(waveforms, drawn, strict=False):
            if rate < rate_hz:
                row[:] = _narrowed(row, int(rate), rate_hz)
        counts = Counter(min(int(rate), rate_hz) for rate in drawn)
        return replace(self, waveforms=waveforms, recorded_at_hz=dict(sorted(counts.items())))

    @classmethod
    def of_recordings(
        cls, base: Base, corpus: Corpus, forbidden: Collection[str] = ()
    ) -> Calibration:
        """Takes clips of recordings that whoever exports brings along.

        `forbidden` holds fingerprints of clips of phones, which judge the files or trained.

        Raises:
          ExportRefused: if there are too few clips, or one of them is a phone's.
        """
        clips = list(corpus.utterances)
        if len(clips) < LEAST_OWN_CLIPS:
            raise ExportRefused(
                f"calibration: at least {LEAST_OWN_CLIPS} clips are needed, {corpus.name} has "
                f"{len(clips)}"
            )
        order = stream(0, "own calibration", base.sha256).permutation(len(clips))
        chosen = [clips[index] for index in order[:CALIBRATION_CLIPS]]
        return cls._made(base, corpus, chosen, forbidden)

    @classmethod
    def _made(
        cls, base: Base, corpus: Corpus, chosen: list[Utterance], forbidden: Collection[str]
    ) -> Calibration:
        clips = tuple((clip.utterance_id, corpus.fingerprint(clip)) for clip in chosen)
        if shared := {name for name, found in clips if found in forbidden}:
            raise ExportRefused(
                f"calibration: no clip of a phone may calibrate, got {len(shared)} of them, for "
                f"instance {min(shared)!r}"
            )
        return cls(
            corpus=corpus.name,
            license=corpus.license,
            clips=clips,
            waveforms=base.heard(corpus, chosen),
        )

    @classmethod
    def of(
        cls, base: Base, corpus: Corpus, forbidden_speakers: Collection[str] = ()
    ) -> Calibration:
        """Takes clips of a base's own training speakers, from the corpus that trained it.

        `forbidden_speakers` is everybody who is a phone: whom files are judged by above all.

        Raises:
          ExportRefused: if the corpus lacks the base's speakers or a committed clip, or one of
            them is a phone.
        """
        taught = set(base.speakers)
        public = [clip for clip in corpus.utterances if clip.speaker_id in taught]
        if len(public) < CALIBRATION_CLIPS:
            raise ExportRefused(
                f"calibration: {CALIBRATION_CLIPS} clips of the base's {len(taught)} training "
                f"speakers are needed, {corpus.name} has {len(public)}"
            )
        chosen = _committed(base, corpus) or drawn(base.sha256, public)
        if shared := {clip.speaker_id for clip in chosen} & set(forbidden_speakers):
            raise ExportRefused(
                f"calibration: no phone may be calibrated on, got {len(shared)} of them, for "
                f"instance {min(shared)!r}"
            )
        return cls._made(base, corpus, chosen, ())


def _narrowed(samples: NDArray[np.float32], rate_hz: int, own_hz: int) -> NDArray[np.float32]:
    """Samples (n,) at `own_hz` that were at `rate_hz` on the way."""
    # Down and up again: what is left has nothing above half of the lower rate.
    narrow = soxr.resample(samples, own_hz, rate_hz, quality="HQ")
    wide = soxr.resample(narrow, rate_hz, own_hz, quality="HQ")
    fitted = np.zeros_like(samples)
    fitted[: min(len(samples), len(wide))] = wide[: len(samples)]
    return fitted


def synthetic_public(base: Base, lexicon: Mapping[str, str] | None = None) -> SyntheticCorpus:
    """The synthesizer's corpus that `pretrain.synthetic_base` trained a base on.

    Raises:
      ExportRefused: if the base says that it was trained on something else.
    """
    provenance = base.provenance
    if provenance.get("corpus") != "synthetic":
        raise ExportRefused(
            f"calibration: the base was trained on {provenance.get('corpus')}, not on the "
            "synthesizer's public speakers"
        )
    return SyntheticCorpus(
        pretraining_spec(
            Kws.known(base),
            seed=int(provenance["seed"]),
            num_public=len(base.speakers),
            lexicon=lexicon,
        )
    )


def drawn(key: str, public: list[Utterance]) -> list[Utterance]:
    """Returns the calibration clips that a key draws."""
    order = stream(0, "calibration", key).permutation(len(public))
    return [public[index] for index in order[:CALIBRATION_CLIPS]]


def _committed(base: Base, corpus: Corpus) -> list[Utterance]:
    """The committed clips, if the list is of this base; else none."""
    document = json.loads(COMMITTED_FILE.read_text(encoding="utf-8"))
    if document["base_sha256"] != base.sha256:
        return []
    by_id = {clip.utterance_id: clip for clip in corpus.utterances}
    chosen = []
    for name, expected in document["clips"]:
        # Another sound under the same id would calibrate silently on something else.
        if name not in by_id or corpus.fingerprint(by_id[name]) != expected:
            raise ExportRefused(
                f"calibration: {corpus.name} no longer makes the committed clip {name} of "
                f"SHA-256 {expected[:12]}..."
            )
        chosen.append(by_id[name])
    return chosen


def observe(
    network: Network, waveforms: NDArray[np.float32], within: float = CLIPS_WITHIN
) -> dict[str, tuple[float, float]]:
    """Layer of a merged network to its range on waveforms (n, heard_samples).

    At either end, a share `within` of the clips has no value outside it. The largest value of all
    depends on a single clip, and so on which clips are drawn; its range is too wide for the others,
    whose rounding it coarsens.
    """
    features = (log_mel(network.frontend, waveforms) - network.feature_mean) / network.feature_std
    return observe_features(network, torch.from_numpy(features), within)


def observe_features(
    network: Network, features: Tensor, within: float = 1.0
) -> dict[str, tuple[float, float]]:
    """The same from standardized features, shape (n, frames, m); 1: every value of every clip."""
    seen: dict[str, tuple[float, float]] = {}

    def note(name: str, x: Tensor) -> Tensor:
        clips = x.flatten(1).numpy()
        low = float(np.quantile(clips.min(axis=1), 1 - within))
        high = float(np.quantile(clips.max(axis=1), within))
        # Zero lies in every range: padding and ReLU produce it, and int8 must hold it exactly.
        seen[name] = (min(low, 0.0), max(high, 0.0))
        return x

    def convolve(name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        del name
        # Torch's own convolution, so that the ranges do not depend on the graph that they are for.
        return torch.nn.functional.conv1d(
            torch.nn.functional.pad(x, (conv.left_padding, 0)),
            torch.from_numpy(conv.weight),
            torch.from_numpy(conv.bias),
            stride=conv.stride,
        )

    with torch.inference_mode():
        x = note("input", features.transpose(1, 2))
        output = run_encoder(network.encoder, x, convolve=convolve, relu=torch.relu, note=note)
        windows = note("output", torch.relu(output))
        *_, (_, _, stride) = convolution_steps(network.encoder)
        note("mean", windows[:, :, network.context_frames // stride :].mean(dim=2))
    return seen
