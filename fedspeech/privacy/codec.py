"""What a phone does to its delta, and what the server reads from the sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy import encoding, whole_counts
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.mechanisms import RoundedGaussian
from fedspeech.privacy.sizing import PlanSizing
from fedspeech.seeds import Keystream

WRAP_WARNING = 0.85  # share of the ring's half


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What a sum says.

    Attributes:
      mean: delta over the phones expected in the sum, shape (d,), float64.
      share_within: noisy share of deltas within the clip norm; None without adaptive clipping.
      too_long: whether the sum, noise included, is longer than `PlanSizing.norm_bound`.
    """

    mean: NDArray[np.float64]
    share_within: float | None
    too_long: bool


@dataclass(frozen=True, kw_only=True)
class PlanCodec(PlanSizing):
    """Clip, encode and noise on the phone; noise, where the server adds it, and decode."""

    def privatize(
        self,
        vector: NDArray[np.floating],
        *,
        rotation_seed: bytes,
        rounding: Keystream,
        noise: Keystream,
        clip_norm: float | None = None,
    ) -> NDArray[np.uint32]:
        """Clips, rotates, scales, rounds, adds this phone's noise and enters the ring.

        A delta with a coordinate that is not finite becomes zeros with full noise: whether a phone
        takes part must not depend on its data. The clip bit is the last coordinate, +-1/2 of
        `bit_scale`, neither rotated nor counted in the vector's norm.

        Args:
          vector: the delta, shape (dimension,).
          rotation_seed: public, the same for all phones of a round.
          rounding: secret, of this phone and attempt, used for nothing else.
          noise: likewise.
          clip_norm: of the round; None: the plan's.

        Returns:
          Shape (vector_length,), values below 2^bits: safe to add, not to publish alone.

        Raises:
          ValueError: if the vector has another shape, or phones may not clip to this norm.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(f"expected a vector of shape ({self.dimension},), got {vector.shape}")
        clip_norm = self._checked(clip_norm)
        if self.whole:
            return self.privatize_whole(vector[np.newaxis], [noise]).reshape(-1)
        clip = L2Clip(clip_norm=clip_norm)
        rotated = encoding.rotate(clip(vector), self._rotation(rotation_seed))
        # Whatever norm a round clips to, it fills the same range of integers: ring, noise and price
        # stay what the plan says.
        rotated *= self.scale * (self.clip_norm / clip_norm)
        integers = encoding.conditional_round(rotated, self.norm_bound_squared, rounding)
        if self.on_phones:
            # Integers onto integers: floating-point noise tells by its low bits what it was added
            # to (Mironov 2012).
            integers += self.noise_distribution.of(self.stddev).draw(noise, len(integers))
        if self.adaptive_clipping is not None:
            # Of the delta as it was: once clipped, every norm is within.
            bit = np.array([clip.within(vector) * (self.bit_scale // 2)], dtype=np.int64)
            if self.on_phones:
                bit += self.noise_distribution.of(self.bit_stddev).draw(noise, 1)
            integers = np.concatenate([integers, bit])
        return encoding.to_ring(integers, self.bits)

    def privatize_whole(
        self, vectors: NDArray[np.floating], noise: Sequence[Keystream]
    ) -> NDArray[np.uint32]:
        """The same of several phones at once, where the plan is of whole numbers.

        There is nothing to clip, rotate or round: what is not within the bound becomes zeros.

        Args:
          vectors: one per phone, shape (phones, dimension).
          noise: secret, one per phone; not read where phones add none.

        Returns:
          Shape (phones, vector_length), the bits of `privatize` for each phone.
        """
        integers = whole_counts.to_integers(
            vectors, round(self.scale), whole_counts.squared_bound(self.clip_norm)
        )
        if self.on_phones:
            integers += self.noise_distribution.of(self.stddev).draw_each(noise, self.dimension)
        return encoding.to_ring(integers, self.bits)

    def decode(
        self,
        total: NDArray[np.uint32],
        *,
        rotation_seed: bytes,
        clip_norm: float | None = None,
        noise: Keystream | NDArray[np.int64] | None = None,
    ) -> Decoded:
        """Turns a ring's sum into the mean delta, dividing by the fixed number expected in it.

        Noise that the server adds enters the ring like any other, before anything is read from the
        sum. Added to an unwrapped sum it would hide nothing where the sum stands at the ring's
        edge: one phone more, and a coordinate jumps by the whole ring.

        Args:
          total: the ring's sum, shape (vector_length,).
          rotation_seed: as for `privatize`.
          clip_norm: as for `privatize`.
          noise: of this round and secret, where the server adds it: a keystream, or where noise is
            correlated the round's row, shape (padded_dimension,).

        Raises:
          ValueError: if the sum has another shape or leaves the ring, or the server's noise is
            missing or of the wrong kind.
        """
        if self.central:
            drawn = isinstance(noise, Keystream)
            if noise is None or drawn == (self.factorization is not None):
                what = "none" if noise is None else type(noise).__name__
                raise ValueError(
                    f"mechanism {self.mechanism!r} adds noise to the sum: {what} was given"
                )
            total = self._with_server_noise(total, noise)
        share = None
        if self.adaptive_clipping is not None:
            bits = float(self._centered(total)[self.padded_dimension])
            share = 0.5 + bits / (self.bit_scale * self.expected_cohort)
        summed = self.read(total, rotation_seed=rotation_seed, clip_norm=clip_norm)
        return Decoded(
            mean=summed / self.expected_in_sum,
            share_within=share,
            too_long=self.norm_warning(total),
        )

    def read(
        self, vector: NDArray[np.uint32], *, rotation_seed: bytes, clip_norm: float | None = None
    ) -> NDArray[np.float64]:
        """What a vector or a sum of them says, before the server adds any noise, shape (d,).

        One phone's vector too, where no mask hides it: an audit reads what such a server could.

        Args:
          vector: shape (vector_length,).
          rotation_seed: as for `privatize`.
          clip_norm: as for `privatize`.

        Raises:
          ValueError: if it has another shape or leaves the ring.
        """
        integers = self._centered(vector)[: self.padded_dimension]
        scale = self.scale * (self.clip_norm / self._checked(clip_norm))
        decoded = integers.astype(np.float64) / scale
        if self.whole:
            return decoded
        return encoding.unrotate(decoded, self._rotation(rotation_seed), self.dimension)

    def noise_norm(self, reporting: int, clip_norm: float | None = None) -> float:
        """Expected L2 norm of the noise in the mean of a round of so many reporting phones.

        Where noise is correlated: of what a round draws afresh.
        """
        # By the coordinates of the delta: the padding, which unrotating drops, takes its noise
        # along.
        variance = reporting * self.stddev**2 + self.groups * self.server_stddev**2
        scale = self.scale * (self.clip_norm / self._checked(clip_norm))
        return math.sqrt(variance * self.dimension) / scale / self.expected_cohort

    def wrap_warning(self, total: NDArray[np.uint32]) -> bool:
        """Whether a coordinate is so large that some may have wrapped; hurts accuracy only."""
        return bool(np.abs(self._centered(total)).max() > WRAP_WARNING * self.modulus / 2)

    def norm_warning(self, total: NDArray[np.uint32]) -> bool:
        """Whether the sum is longer than `norm_bound`: somebody sent what no honest phone sends."""
        vector = self._centered(total)[: self.padded_dimension].astype(np.float64)
        norm = math.sqrt(float(np.add.reduce(vector**2)))
        return norm / (self.scale * self.clip_norm) > self.norm_bound

    def accepts(self, clip_norm: float) -> bool:
        """Whether a phone may be asked to clip to this norm."""
        if self.adaptive_clipping is None:
            return clip_norm == self.clip_norm
        bounds = self.adaptive_clipping
        return bounds.min_clip_norm <= clip_norm <= bounds.max_clip_norm

    def _checked(self, clip_norm: float | None) -> float:
        if clip_norm is None:
            return self.clip_norm
        if not self.accepts(clip_norm):
            raise ValueError(f"the plan does not clip to clip_norm={clip_norm}")
        return clip_norm

    def _rotation(self, seed: bytes) -> bytes:
        """Seed of a round's rotation.

        Correlated noise takes back coordinate by coordinate what earlier rounds were given, so all
        rounds of a run are rotated alike. The rotation is public and no part of the privacy.
        """
        return seed if self.factorization is None else b"one rotation for correlated noise"

    def _with_server_noise(
        self, total: NDArray[np.uint32], noise: Keystream | NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        """Adds the server's noise, mod 2^bits: as if each integer had been noised before."""
        if not isinstance(noise, Keystream):
            return encoding.to_ring(self._centered(total) + noise, self.bits)
        drawn = [RoundedGaussian.of(self.server_stddev).draw(noise, self.padded_dimension)]
        if self.adaptive_clipping is not None:
            drawn.append(RoundedGaussian.of(self.server_bit_stddev).draw(noise, 1))
        return encoding.to_ring(self._centered(total) + np.concatenate(drawn), self.bits)

    def _centered(self, total: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Checks a sum and unwraps it around zero."""
        if total.shape != (self.vector_length,) or total.dtype != np.uint32:
            raise ValueError(
                f"expected uint32 of shape ({self.vector_length},), got {total.dtype} of shape "
                f"{total.shape}"
            )
        # No sum in the ring is that large, and `from_ring` would fold it without a word.
        if int(total.max()) >= self.modulus:
            raise ValueError(f"a sum must be below the modulus {self.modulus}, got {total.max()}")
        return encoding.from_ring(total, self.bits)
