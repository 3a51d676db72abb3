"""Uniform draws of phones: of one phone the same as among a million."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.seeds import stream

Phones = range | Sequence[int] | NDArray[np.int64]


def uniform(
    seed: int, name: tuple[str | int, ...], columns: int, phones: Phones
) -> NDArray[np.float64]:
    """Uniform draws of phones, shape (phones, columns): of a phone the same whoever asks."""
    if isinstance(phones, range) and phones.step == 1:
        rng = stream(seed, *name)
        _skip(rng, phones.start * columns)
        return rng.random((len(phones), columns))
    found = np.empty((len(phones), columns))
    for place, phone in enumerate(phones):
        rng = stream(seed, *name)
        _skip(rng, int(phone) * columns)
        found[place] = rng.random(columns)
    return found


def _skip(rng: np.random.Generator, draws: int) -> None:
    """Goes on by so many doubles, each of which is one output of the generator."""
    generator = rng.bit_generator
    assert isinstance(generator, np.random.PCG64DXSM)
    generator.advance(draws)
