"""Simulated users: what phones would remember of days of use, as rows of the telemetry schema.

    users = SimulatedUsers(schema, attributes, UserRates(days=7), seed=1)
    found = users.events()             # found.events, found.offsets; found.truth of each phone

Users speak to their phones, sound wakes phones by mistake, and each moment has a score: the logit
of a normal distribution that accent, device class and noise move. What the threshold does to it
decides how the moment ends, so that a threshold, a policy or an incident changes all figures
together. The rates and their sources stand in `user_rates`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.telemetry import Events, Schema
from fedspeech.device.user_rates import (
    ACCENT_LOGITS,
    DEVICE_LOGITS,
    ENOUGH_DB,
    ENVIRONMENT_DB,
    ENVIRONMENTS,
    LOGITS_PER_DB,
    MISTAKEN,
    NOISE_DB,
    PART_SHARES,
    SNR_SPREAD_DB,
    USUAL_DB,
    WAKES_ALONE,
    Jingle,
    UserRates,
)
from fedspeech.errors import ScenarioError
from fedspeech.seeds import stream

Floats = NDArray[np.float32]
Codes = NDArray[np.int16]

_BLOCK = 1 << 16
"""Phones whose draws share streams."""

_SCORE_EDGES = np.array([math.log(s / (1 - s)) for s in np.arange(1, 10) / 10], dtype=np.float32)
_SNR_EDGES = np.arange(0, 31, 5, dtype=np.float32)

TRUTH = ("invocations", "false rejects", "false accepts", "hours")
"""What a simulation knows of each phone and no phone does."""


@dataclass(frozen=True, eq=False)
class SimulatedEvents:
    """Events of all phones, one phone after the other, each in the order of time.

    Attributes:
      events: shape (events, columns), int16, of the schema.
      offsets: phone p owns events offsets[p] to offsets[p + 1], shape (phones + 1,), int64.
      truth: simulation only: `TRUTH` of each phone, shape (phones, 4), float32.
    """

    events: Events
    offsets: NDArray[np.int64]
    truth: Floats


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the phones of one block in which a detector heard something, in order of time.

    Attributes:
      cell: ((phone in block) * days + day) * 4 + part of the day, shape (n,), int32, ascending.
      environment, word: codes of the schema, (n,), int16; the word that was meant or, of a false
        accept, that the sound was taken for.
      snr_db: measured on the phone, (n,), float32.
      logit: of the score, (n,), float32.
      meant: whether the user spoke to the phone.
    """

    cell: NDArray[np.int32]
    environment: NDArray[np.int16]
    word: NDArray[np.int16]
    snr_db: Floats
    logit: Floats
    meant: bool


class SimulatedUsers:
    """Users of phones with known attributes, the same from the same seed.

    Streams are named by block of phones and by what is drawn: a jingle changes no other event.
    """

    def __init__(self, schema: Schema, attributes: Events, rates: UserRates, seed: int) -> None:
        """Prepares the tables; draws nothing.

        Args:
          schema: over the vocabulary of the product.
          attributes: of the phones, shape (phones, attributes).
          rates: of the users.
          seed: of all draws.

        Raises:
          ScenarioError: if the schema has no words or not the names that the rates have.
        """
        schema.check_attributes(attributes)
        self._words = len(schema.column("answered").buckets)
        if not self._words:
            raise ScenarioError("telemetry needs words: a vocabulary or telemetry.intents")
        self.schema, self.rates, self.seed = schema, rates, seed
        self._attributes = attributes
        of = {name: attributes[:, place] for place, name in enumerate(schema.attributes)}
        offsets = _table(schema, "accent", ACCENT_LOGITS)[of["accent"]]
        self._device = of["device"]
        self._offset = offsets + _table(schema, "device", DEVICE_LOGITS)[self._device]
        self._usual_db = _table(schema, "noise", NOISE_DB, USUAL_DB)[of["noise"]]
        self._environment_db = _table(schema, "environment", ENVIRONMENT_DB)
        # Some words are taken for others more often.
        hard = stream(seed, "telemetry", "words").lognormal(0, 0.5, self._words)
        self._hardness = np.concatenate([[0], hard / hard.mean()]).astype(np.float32)
        for one in (rates.jingle, rates.threshold_change):
            if one is not None:
                schema.code("device", one.device)
        if rates.jingle is not None:
            schema.code("day_part", rates.jingle.day_part)

    @property
    def phones(self) -> int:
        """Number of phones."""
        return len(self._attributes)

    def events(self) -> SimulatedEvents:
        """Draws all events; a million phones and a week take seconds."""
        parts = [self._block(block) for block in self.blocks()]
        counts = np.concatenate([counts for _, counts, _ in parts])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return SimulatedEvents(
            np.concatenate([rows for rows, _, _ in parts]),
            offsets,
            np.concatenate([truth for _, _, truth in parts]),
        )

    def blocks(self) -> range:
        """First phones of the blocks."""
        return range(0, self.phones, _BLOCK)

    def moments(self, block: int) -> tuple[Moments, ...]:
        """What the detectors of a block heard: words that were meant, other sound, the jingle.

        Of other sound and of the jingle only what is above the threshold is drawn.
        """
        hours = self.hours(block)
        found = [self._spoken(block), self._mistaken(block, hours)]
        if self.rates.jingle is not None:
            found.append(self._jingles(block, self.rates.jingle))
        return tuple(found)

    def hours(self, block: int) -> Floats:
        """Hours of listening of a block's phones by day, shape (phones, days)."""
        rng = self._stream(block, "listening")
        shape = (self._size(block), self.rates.days)
        usual = rng.uniform(4, 24, (shape[0], 1))
        return np.clip(usual + rng.normal(0, 2, shape), 0.1, 23.9).astype(np.float32)

    def cut(self, block: int) -> Floats:
        """Threshold of a block's phones by day, as a logit, shape (phones, days)."""
        rates, days = self.rates, self.rates.days
        cut = np.full((self._size(block), days), _logit(rates.threshold), dtype=np.float32)
        if (change := rates.threshold_change) is not None:
            # One draw per phone for all stages: who has the change keeps it.
            draw = self._stream(block, "stages").random(len(cut))
            stage = (np.arange(days) - change.first_day) // change.days_per_stage
            share = np.array([0.0, *change.stages])[np.clip(stage + 1, 0, len(change.stages))]
            changed = self._of_class(block, change.device)[:, np.newaxis] & (
                draw[:, np.newaxis] < share
            )
            cut[changed] = _logit(change.threshold)
        return cut

    def _block(self, block: int) -> tuple[Events, NDArray[np.int64], Floats]:
        """Rows of a block, number of rows by phone, and the truth of each phone."""
        hours, size, day = self.hours(block), self._size(block), 4 * self.rates.days
        # A day's listening is known when the day is over, in its last part.
        cells = [np.arange(3, size * day, 4, dtype=np.int32)]
        rows = [self._listening(hours)]
        truth = np.zeros((size, len(TRUTH)), dtype=np.float32)
        truth[:, 3] = hours.sum(axis=1)
        for place, moments in enumerate(self.moments(block)):
            rng = self._stream(block, "ends", place)
            accepted = self.accepted(block, moments)
            ended, kept = self._ended(block, moments, accepted, rng)
            cells.append(moments.cell[kept])
            rows.append(ended[kept])
            for column, counted in self._counted(moments, accepted):
                truth[:, column] += np.bincount(moments.cell[counted] // day, minlength=size)
        cell = np.concatenate(cells)
        # Each of them is in order, of which a stable sort makes use.
        order = np.argsort(cell, kind="stable")
        return np.concatenate(rows)[order], np.bincount(cell // day, minlength=size), truth

    def accepted(self, block: int, moments: Moments) -> NDArray[np.bool_]:
        """Whether the detectors of a block accept, shape (moments,)."""
        return moments.logit >= self.cut(block).ravel()[moments.cell // 4]

    @staticmethod
    def _counted(
        moments: Moments, accepted: NDArray[np.bool_]
    ) -> tuple[tuple[int, NDArray[np.bool_]], ...]:
        """Columns of the truth, and the moments that count there."""
        if moments.meant:
            return (0, np.ones_like(accepted)), (1, ~accepted)
        return ((2, accepted),)

    def _spoken(self, block: int) -> Moments:
        """Words that users say to their phones."""
        rng, rates = self._stream(block, "spoken"), self.rates
        activity = rng.gamma(2, rates.interactions_per_day / 2, (self._size(block), 1, 1))
        expected = np.broadcast_to(
            activity * np.array(PART_SHARES), (self._size(block), rates.days, 4)
        )
        cell = _repeated(rng.poisson(expected))
        environment = _environments(np.array(ENVIRONMENTS), cell % 4, rng)
        phone = block + cell // (4 * rates.days)
        snr_db = self._snr(phone, environment, rng)
        logit = rng.standard_normal(len(cell), dtype=np.float32) * np.float32(rates.score_spread)
        logit += self._offset[phone] + np.float32(_logit(rates.median_score))
        logit -= np.float32(LOGITS_PER_DB) * np.maximum(0, np.float32(ENOUGH_DB) - snr_db)
        word = rng.integers(1, self._words + 1, len(cell), dtype=np.int16)
        return Moments(cell, environment, word, snr_db, logit, meant=True)

    def _mistaken(self, block: int, hours: Floats) -> Moments:
        """Other sound above the threshold; its score has an exponential tail."""
        rng, scale = self._stream(block, "mistaken"), self.rates.false_accept_scale
        cut = self.cut(block)
        by_day = self.rates.false_accepts_per_day * hours / 24 * np.exp(-cut / scale)
        expected = by_day[:, :, np.newaxis] * np.array(PART_SHARES)
        cell = _repeated(rng.poisson(expected))
        environment = _environments(np.array([MISTAKEN]), np.zeros_like(cell), rng)
        logit = cut.ravel()[cell // 4] + rng.exponential(scale, len(cell)).astype(np.float32)
        return self._sounds(block, cell, environment, logit, rng)

    def _jingles(self, block: int, jingle: Jingle) -> Moments:
        """Appearances of the jingle above the threshold."""
        rng, days = self._stream(block, "jingle"), self.rates.days
        expected = np.zeros((self._size(block), days, 4))
        part = self.schema.code("day_part", jingle.day_part)
        heard = self._of_class(block, jingle.device)
        expected[heard, jingle.first_day :, part] = jingle.per_day
        cell = _repeated(rng.poisson(expected))
        logit = rng.normal(_logit(jingle.median_score), jingle.score_spread, len(cell))
        above = logit >= self.cut(block).ravel()[cell // 4]
        cell = cell[above]
        television = self.schema.code("environment", "television_or_music")
        environment = np.full(len(cell), television, dtype=np.int16)
        return self._sounds(block, cell, environment, logit[above].astype(np.float32), rng)

    def _sounds(
        self,
        block: int,
        cell: NDArray[np.int32],
        environment: NDArray[np.int16],
        logit: Floats,
        rng: np.random.Generator,
    ) -> Moments:
        snr_db = self._snr(block + cell // (4 * self.rates.days), environment, rng)
        word = rng.integers(1, self._words + 1, len(cell), dtype=np.int16)
        return Moments(cell, environment, word, snr_db, logit, meant=False)

    def _ended(
        self,
        block: int,
        moments: Moments,
        accepted: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> tuple[Events, NDArray[np.bool_]]:
        """How moments ended, as rows, and which of them a phone remembers."""
        draw = rng.random(len(accepted), dtype=np.float32)
        code = {name: self.schema.code("event", name) for name in self.schema.names("event")}
        rows = self._rows(moments)
        event = np.full(len(accepted), code["wake_trigger"], dtype=np.int16)
        known = np.ones_like(accepted)
        if moments.meant:
            meant, answered = self._answers(block, moments, rng)
            wrong = answered != moments.word
            corrected = wrong & (answered > 0)
            asked = draw >= WAKES_ALONE
            event[asked] = code["command_success"]
            event[asked & wrong] = code["command_failure"]
            event[asked & corrected] = code["correction"]
            event[~accepted] = code["likely_false_reject"]
            # The phone knows what was meant where it was right, was corrected, or heard the retry.
            meant[accepted & (~asked | (wrong & ~corrected))] = 0
            answered[~accepted | ~asked] = 0
            known = accepted | (draw < self.rates.retried_share)
        else:
            event[draw < self.rates.canceled_share] = code["canceled_false_accept"]
            meant, answered = np.zeros_like(moments.word), moments.word
        for name, column in (("event", event), ("word_or_intent", meant), ("answered", answered)):
            rows[:, self.schema.place(name)] = column
        return rows, known

    def _answers(
        self, block: int, moments: Moments, rng: np.random.Generator
    ) -> tuple[Codes, Codes]:
        """Words that were meant, and the answers: another word, or 0 where nothing was done."""
        phone = block + moments.cell // (4 * self.rates.days)
        share = np.exp(-self._offset[phone]) * self._hardness[moments.word]
        draw = rng.random(len(phone), dtype=np.float32)
        wrong = draw < self.rates.wrong_share * share
        named = draw < self.rates.wrong_share * share * self.rates.corrected_share
        answered = np.where(wrong, 0, moments.word).astype(np.int16)
        if self._words > 1:
            # Half of the confusions of a word are with one other, its neighbor in the vocabulary.
            step = rng.integers(1, self._words, len(phone), dtype=np.int16)
            step[rng.random(len(phone), dtype=np.float32) < 0.5] = 1
            other = (moments.word - 1 + step) % self._words + 1
            answered[named] = other[named]
        return moments.word.copy(), answered

    def _rows(self, moments: Moments) -> Events:
        """Rows with what the phone measured; the rest is none."""
        rows = np.zeros((len(moments.cell), len(self.schema.columns)), dtype=np.int16)
        measured: dict[str, NDArray[np.integer]] = {
            "day": moments.cell // 4 % self.rates.days,
            "day_part": moments.cell % 4,
            "environment": moments.environment,
            "score_bucket": np.searchsorted(_SCORE_EDGES, moments.logit, side="right") + 1,
            "snr_bucket": np.searchsorted(_SNR_EDGES, moments.snr_db, side="right") + 1,
        }
        for name, column in measured.items():
            rows[:, self.schema.place(name)] = column.astype(np.int16)
        return rows

    def _listening(self, hours: Floats) -> Events:
        """A row for each phone and day: for how long its detector listened."""
        rows = np.zeros((hours.size, len(self.schema.columns)), dtype=np.int16)
        rows[:, self.schema.place("day")] = np.tile(np.arange(hours.shape[1]), len(hours))
        rows[:, self.schema.place("event")] = self.schema.code("event", "listening")
        rows[:, self.schema.place("day_part")] = 3
        rows[:, self.schema.place("listening")] = hours.ravel() // 6 + 1
        return rows

    def _snr(
        self, phone: NDArray[np.int32], environment: Codes, rng: np.random.Generator
    ) -> Floats:
        spread = rng.standard_normal(len(phone), dtype=np.float32) * np.float32(SNR_SPREAD_DB)
        found: Floats = self._usual_db[phone] + self._environment_db[environment] + spread
        return found

    def _of_class(self, block: int, device: str) -> NDArray[np.bool_]:
        """Whether the phones of a block are of a class."""
        found: NDArray[np.bool_] = self._device[block : block + _BLOCK] == self.schema.code(
            "device", device
        )
        return found

    def _size(self, block: int) -> int:
        """Number of phones of a block."""
        return min(_BLOCK, self.phones - block)

    def _stream(self, block: int, *names: str | int) -> np.random.Generator:
        return stream(self.seed, "telemetry", block, *names)


def _table(schema: Schema, column: str, values: Mapping[str, float], usual: float = 0.0) -> Floats:
    """Values by code of a column."""
    return np.array([values.get(name, usual) for name in schema.names(column)], dtype=np.float32)


def _logit(score: float) -> float:
    return math.log(score / (1 - score))


def _repeated(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Cells, each as often as it is counted."""
    cells = np.arange(counts.size, dtype=np.int32)
    return np.repeat(cells, counts.ravel())


def _environments(
    shares: NDArray[np.float64], context: NDArray[np.int32], rng: np.random.Generator
) -> Codes:
    """Draws an environment for each moment from the shares of its context."""
    edges = np.cumsum(shares, axis=1) + np.arange(len(shares))[:, np.newaxis]
    edges[:, -1] = np.arange(1, len(shares) + 1)  # whatever the rounding of the shares
    place = np.searchsorted(edges.ravel(), context + rng.random(len(context)), side="right")
    found: Codes = (place - context * shares.shape[1]).astype(np.int16)
    return found
