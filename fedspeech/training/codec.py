"""Training of a codec whose first codebook keeps the words; the voice stays in it all the same.

    lesson = TokenLesson(features, teacher, speakers)
    codec = train_codec(lesson, TokenTraining(), CodecSpec(), seed=1)

Losses, after Tura-Vecino et al. 2025 (arXiv:2505.13085) in the small: reconstruction of log-mel
(L1); quantization; distillation of a recognizer's frames into the first codebook (L1, and the
log-sigmoid of the cosine); a speaker classifier with an additive margin behind gradient reversal
(Ganin et al. 2016, arXiv:1505.07818; Wang et al. 2018, arXiv:1801.05599). For half of the clips the
decoder gets
the first codebook alone, and its gradient ends there: what only the first codebook could give back
of a voice must not be pushed into it.

Noise, where it is asked for, is Laplace noise on the clipped latents of the first codebook, in
training alone. It makes codes that lie close together mean the same. It is no mechanism of
differential privacy: a stream of tokens is made without noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.errors import require
from fedspeech.limits import Count, NotNegative, Positive, Share, check_limits
from fedspeech.models.base import Base
from fedspeech.models.codec import STRIDE, Codec, CodecNetwork, CodecSpec, Provenance
from fedspeech.models.encoder import activated
from fedspeech.models.gradient_reversal import gradient_reversal
from fedspeech.seeds import stream
from fedspeech.training.base_training import reproducible

_BLOCK = 128
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class TokenLesson:
    """What a codec learns from.

    Attributes:
      features: log-mel of clips, shape (n, frames, mels).
      teacher: frames of a recognizer, one a token, shape (n, tokens, f).
      speakers: whose each clip is, from 0, shape (n,).

    Raises:
      ValueError: if shapes do not fit, a value is not finite, or one speaker speaks alone.
    """

    features: NDArray[np.float32]
    teacher: NDArray[np.float32]
    speakers: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Checks the arrays against each other."""
        clips, frames = self.features.shape[:2]
        tokens = -(-frames // STRIDE)
        fits = self.teacher.shape[:2] == (clips, tokens) and self.speakers.shape == (clips,)
        require(fits, "expected a recognizer's frame of every token and a speaker of every clip",
                features=self.features.shape, teacher=self.teacher.shape,
                speakers=self.speakers.shape)  # fmt: skip
        for name in ("features", "teacher"):
            require(bool(np.isfinite(getattr(self, name)).all()), f"{name} must be finite")
        require(len(np.unique(self.speakers)) > 1, "expected clips of two speakers or more",
                speakers=len(np.unique(self.speakers)))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TokenTraining:
    """How a codec is trained.

    Attributes:
      epochs: passes over the clips.
      batch_clips: clips of a step.
      learning_rate: peak of a one-cycle schedule of AdamW.
      semantic: weight of distillation.
      adversary: weight of the reversed gradient, reached halfway. A larger one makes voices easier
        to find for another classifier, and costs words (docs/speech-tokens.md).
      margin: subtracted from the cosine of the true speaker.
      scale: of cosines.
      first_alone: share of clips that are decoded from the first codebook.
      clip_norm: bound on the L1 norm of a latent of the first codebook; None: no noise.
      noise_ratio: sensitivity 2 clip_norm over the scale of the noise.

    Raises:
      ValueError: if a number is out of range.
    """

    epochs: Count = 24
    batch_clips: Count = 64
    learning_rate: Positive = 3e-3
    semantic: NotNegative = 4.0
    adversary: NotNegative = 0.03
    margin: NotNegative = 0.4
    scale: Positive = 30.0
    first_alone: Share = 0.5
    clip_norm: Positive | None = None
    noise_ratio: Positive = 15.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)


def train_codec(
    lesson: TokenLesson,
    training: TokenTraining,
    spec: CodecSpec,
    *,
    seed: int,
    frontend: FrontendSpec = LOG_MEL,
    provenance: Provenance | None = None,
    progress: Progress | None = None,
) -> Codec:
    """Trains a codec; the same seed gives the same codec on the same machine."""
    began = time.process_time()
    mean = lesson.features.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    std = np.maximum(lesson.features.std(axis=(0, 1), dtype=np.float64), 1e-3).astype(np.float32)
    with reproducible(seed):
        network = CodecNetwork(spec)
        adversary = SpeakerClassifier(spec.width, int(lesson.speakers.max()) + 1, training)
        features = torch.from_numpy((lesson.features - mean) / std)
        arrays = (
            features, torch.from_numpy(lesson.teacher), torch.from_numpy(lesson.speakers)
        )  # fmt: skip
        _fit(network, adversary, arrays, training, stream(seed, "codec", "batches"), progress)
    return Codec(
        network=network,
        frontend=frontend,
        feature_mean=mean,
        feature_std=std,
        provenance={
            **(provenance or {}),
            "seed": seed,
            "clips": len(lesson.features),
            "speakers": len(np.unique(lesson.speakers)),
            "epochs": training.epochs,
            "noise_in_training": int(training.clip_norm is not None),
            "cpu_seconds": round(time.process_time() - began, 1),
        },
    )


def clip_norm_of(codec: Codec, features: NDArray[np.float32]) -> float:
    """Mean L1 norm of the first codebook's latents, of a codec that was trained without noise."""
    with torch.inference_mode():
        standard = torch.from_numpy((features - codec.feature_mean) / codec.feature_std)
        quantizer = codec.network.quantizer(0)
        latents = quantizer.down(codec.network.latents(standard.float()))
    return float(latents.abs().sum(dim=-1).mean())


def teacher_frames(windows: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
    """Frames of a recognizer at a lower rate, repeated so that each token has one.

    A causal window has heard what came before it, so a token is given the first window that has
    heard all of it. Shape (n, windows, f) to (n, tokens, f).
    """
    steps = windows.shape[1]
    places = np.minimum(np.ceil((np.arange(tokens) + 1) * steps / tokens).astype(np.int64), steps)
    return np.ascontiguousarray(windows[:, places - 1])


class SpeakerClassifier(nn.Module):
    """Whose clip is it, by cosines with an additive margin, behind a reversed gradient."""

    def __init__(self, width: int, speakers: int, training: TokenTraining) -> None:
        """Makes the layers; the initial values come from torch's generator."""
        super().__init__()
        self.frames = nn.Sequential(nn.Conv1d(width, 96, 5, padding=2), nn.ReLU())
        self.voices = nn.Parameter(torch.randn(speakers, 192))
        self._training = training

    def loss(self, vectors: Tensor, speakers: Tensor, strength: float) -> Tensor:
        """AM-softmax of clips (n, t, width); what comes before gets the gradient reversed."""
        frames = self.frames(gradient_reversal(vectors, strength).transpose(1, 2))
        pooled = torch.cat([frames.mean(dim=2), frames.std(dim=2)], dim=1)
        cosines = nn.functional.normalize(pooled) @ nn.functional.normalize(self.voices).T
        margins = self._training.margin * nn.functional.one_hot(speakers, cosines.shape[1])
        return nn.functional.cross_entropy(self._training.scale * (cosines - margins), speakers)


def distillation(found: Tensor, teacher: Tensor) -> Tensor:
    """L1 and log-sigmoid of the cosine between (n, t, f) and the recognizer's frames."""
    cosine = nn.functional.cosine_similarity(found, teacher, dim=-1)
    return (found - teacher).abs().mean() - nn.functional.logsigmoid(cosine).mean()


def decoder_input(quantized: Sequence[Tensor], alone: Tensor) -> Tensor:
    """The first codebook's vectors where it is alone, and no gradient to them, else the sum of all.

    Args:
      quantized: vectors of each codebook, (n, t, width).
      alone: which clips are decoded from the first codebook, (n, 1, 1).
    """
    whole = torch.stack(list(quantized)).sum(dim=0)
    return torch.where(alone, quantized[0].detach(), whole)


def noisy(latents: Tensor, clip_norm: float, ratio: float) -> Tensor:
    """Latents (..., d), clipped in L1 norm, with Laplace noise of scale 2 clip_norm / ratio.

    For training alone: it teaches that close latents mean the same.
    """
    norms = latents.abs().sum(dim=-1, keepdim=True)
    clipped = latents * (clip_norm / norms.clamp(min=clip_norm))
    uniform = torch.rand_like(latents) - 0.5
    scale = 2 * clip_norm / ratio
    return clipped - scale * uniform.sign() * torch.log1p(-2 * uniform.abs().clamp(max=0.4999999))


def _fit(
    network: CodecNetwork,
    adversary: SpeakerClassifier,
    arrays: tuple[Tensor, Tensor, Tensor],
    training: TokenTraining,
    rng: np.random.Generator,
    progress: Progress | None,
) -> None:
    clips = len(arrays[0])
    batches = max(1, clips // training.batch_clips)
    steps = training.epochs * batches
    parameters = [*network.parameters(), *adversary.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=steps
    )
    step = 0
    for _ in range(training.epochs):
        order = torch.from_numpy(rng.permutation(clips))
        for rows in order.tensor_split(batches):
            strength = training.adversary * min(1.0, 2 * step / steps)
            batch = (arrays[0][rows], arrays[1][rows], arrays[2][rows])
            loss = _loss(network, adversary, batch, training, strength)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            step += 1
        _revive(network, arrays[0][order[: training.batch_clips]])
        if progress is not None:
            progress(step, steps)


def _loss(
    network: CodecNetwork,
    adversary: SpeakerClassifier,
    batch: tuple[Tensor, Tensor, Tensor],
    training: TokenTraining,
    strength: float,
) -> Tensor:
    """All terms of one step."""
    features, teacher, speakers = batch
    left = network.latents(features)
    quantized, loss = [], left.new_zeros(())
    for place in range(network.spec.codebooks):
        quantizer = network.quantizer(place)
        latents = quantizer.down(left)
        if place == 0 and training.clip_norm is not None:
            latents = noisy(latents, training.clip_norm, training.noise_ratio)
        vectors, _, term = quantizer(latents)
        quantized.append(vectors)
        left = left - vectors.detach()
        loss = loss + term / network.spec.codebooks
    first = quantized[0]
    alone = torch.rand(len(features), 1, 1) < training.first_alone
    frames = network.decoded(decoder_input(quantized, alone))[:, : features.shape[1]]
    loss = loss + (frames - features).abs().mean()
    loss = loss + training.semantic * distillation(network.semantic(first), teacher)
    return loss + adversary.loss(first, speakers, strength)


@torch.no_grad()
def _revive(network: CodecNetwork, features: Tensor) -> None:
    """Moves entries that no frame of these clips chose to where frames are, after each epoch."""
    network.eval()
    left = network.latents(features)
    for place in range(network.spec.codebooks):
        quantizer = network.quantizer(place)
        latents = quantizer.down(left).flatten(0, 1)
        codes = quantizer.codes(latents)
        unused = torch.bincount(codes, minlength=network.spec.entries) == 0
        drawn = torch.randint(len(latents), (int(unused.sum()),))
        quantizer.codebook[unused] = nn.functional.normalize(latents[drawn], dim=-1)
        left = left - quantizer.vectors(quantizer.codes(quantizer.down(left)))
    network.train()


def token_lesson(base: Base, corpus: Corpus, clips: Sequence[Utterance]) -> TokenLesson:
    """Log-mel of clips, the frames of a base that is their teacher, and whose each is.

    Raises:
      ValueError: if the base answers windows and not clips, or as `TokenLesson` does.
    """
    require(base.per_clip, "the teacher must be a base for words", unit=base.vocabulary.output_unit)
    frontend, features, windows = LogMel(LOG_MEL), [], []
    for start in range(0, len(clips), _BLOCK):
        heard = base.heard(corpus, clips[start : start + _BLOCK])
        said = np.ascontiguousarray(heard[:, -base.encoder.clip_samples :])
        with torch.inference_mode():
            features.append(frontend(torch.from_numpy(said)).numpy())
            frames = activated(base.encoder_output(heard), base.encoder.activation)
            windows.append(frames.numpy())
    shown = np.concatenate(features)
    names = {name: place for place, name in enumerate(sorted({one.speaker_id for one in clips}))}
    return TokenLesson(
        shown,
        teacher_frames(np.concatenate(windows), -(-shown.shape[1] // STRIDE)),
        np.array([names[one.speaker_id] for one in clips], dtype=np.int64),
    )
