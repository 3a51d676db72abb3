"""Full devices and vectorized rules: the same participation, data and bits, phone by phone.

On one side phones with a store, consents, a vault, a scheduler and a door each, whose clocks tick.
On the other arrays. 200 phones live 30 virtual days: clips come in on some days and expire, users
agree, decline and revoke, coins are tossed, and who may work contributes what it holds.
"""

import dataclasses

import numpy as np
import pytest
from phone import AREA, Phone, Time

from fedspeech.device.day_model import DayModel
from fedspeech.device.egress import Door, ProtectedUpdate, opened
from fedspeech.device.retention import DAY_S
from fedspeech.device.scheduler import Condition, Scheduler
from fedspeech.device.uploader import Uploader
from fedspeech.device.work_policy import WorkPolicy
from fedspeech.errors import ConsentMissing
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy, stream

DIMENSION, STEP_S, TRAINING_H = 24, 300.0, 2.6
START_S = 1_000_000 * DAY_S


def plan(phones, days):
    return PrivacyPlan(
        dimension=DIMENSION, clip_norm=1.0, noise_multiplier=1.0, population=phones,
        participation_probability=0.4, rounds=days, max_participations=days, min_cohort=2,
        min_reporting=2, dropout_rate=0.0, secure_aggregation="ideal", delta=1 / (10 * phones),
        epsilon_budget=1e6,
    )  # fmt: skip


@dataclasses.dataclass
class World:
    """What happens to phones, whoever plays them."""

    phones: int
    days: int

    def __post_init__(self):
        rng, shape = stream(8, "world"), (self.days, self.phones)
        self.model = DayModel(seed=8)
        self.policy = WorkPolicy(minutes_a_day=30.0)
        self.agrees = rng.random(self.phones) < 0.8
        self.revokes = np.where(
            rng.random(self.phones) < 0.6, rng.integers(1, self.days, self.phones), 99
        )
        self.speaks = rng.random(shape) < 0.35  # a clip comes in that day
        self.says = rng.integers(1, 50, shape)
        self.called = rng.random(shape) < 0.7
        self.steps = rng.integers(1, 9, shape)  # of 300 s each; more than 6 exceed the minutes
        self.plan = plan(self.phones, self.days)
        self.entropy = NoiseEntropy.seeded(8, "contract")

    def bits(self, day, phone, held):
        """What a phone contributes: a function of what it holds, with its rounding and noise."""
        delta = np.zeros(DIMENSION, np.float32)
        for value in held:
            delta[value % DIMENSION] += 0.05 * value
        return self.plan.privatize(
            delta,
            rotation_seed=bytes(32),
            rounding=self.entropy.keystream("rounding", day, phone),
            noise=self.entropy.keystream("noise", day, phone),
            clip_norm=self.plan.clip_norm,
        )


class Steps:
    """Work of some steps."""

    def __init__(self, left):
        self.left = left

    @property
    def done(self):
        return not self.left

    def step(self):
        self.left -= 1


class Device:
    """One whole phone."""

    def __init__(self, world, folder, number, *, uploads):
        self.world, self.number, self.time = world, number, Time(START_S)
        self.uploads = uploads
        self.phone = Phone(folder, self.time)
        self.scheduler = Scheduler(world.policy)
        self.phone.answer = bool(world.agrees[number])
        try:
            self.receipt = self.phone.agree(days=400).id
        except ConsentMissing:
            self.receipt = ""
        self.door = Door(
            consents=self.phone.consents, area=AREA, vector_length=world.plan.vector_length,
            bits=world.plan.bits, stages={},
        )  # fmt: skip
        self.received = []
        self.uploader = Uploader(self.phone.vault, self.received.append, area=AREA)

    def live(self, day):
        """One day: the round at night, then speech, then perhaps a revocation; what it sent."""
        world, number, vault = self.world, self.number, self.phone.vault
        self.time.seconds = START_S + day * DAY_S + TRAINING_H * 3600
        vault.sweep()
        sent = self._round(day) if world.called[day, number] else None
        self.time.seconds = START_S + day * DAY_S + 12 * 3600
        if world.speaks[day, number]:
            try:
                self.phone.keep("clip", int(world.says[day, number]).to_bytes(2, "big"))
            except ConsentMissing:
                assert not world.agrees[number] or day > world.revokes[number]
        if day == world.revokes[number] and self.receipt:
            vault.revoke(self.receipt)
        return sent

    def _round(self, day):
        world, vault = self.world, self.phone.vault
        hour = 24 * day + TRAINING_H
        condition = Condition.of(world.model.conditions(hour, [self.number]))
        work = Steps(int(world.steps[day, self.number]))
        if self.scheduler.run(work, condition=lambda: condition, day=lambda: day, step_s=STEP_S):
            return None
        held = [
            int.from_bytes(self.phone.use(entry.id).content, "big")
            for entry in vault.usable("clip", purpose="federated_training", area=AREA)
        ]
        update = ProtectedUpdate(
            round_id=day.to_bytes(16, "big"), words=world.bits(day, self.number, held)
        )
        try:
            parcel = self.door.let_out(update, made_s=self.time.seconds)
        except ConsentMissing:
            return None
        if not self.uploads:
            return held, opened(parcel.content).words
        self.uploader.post(parcel, purpose="federated_training", until_s=self.time.seconds + DAY_S)
        assert len(self.received) == len(self.left())
        self.time.seconds = parcel.release_s
        self.uploader.tick(condition)
        return held, opened(self.received[-1]).words

    def left(self):
        return [row for row in self.phone.store.log.rows if row["kind"] == "left"]


def vectorized(world):
    """The same life in arrays: by day who sends, what each holds, and the vectors."""
    for day in range(world.days):
        conditions = world.model.conditions(24 * day + TRAINING_H, range(world.phones))
        # A phone is asked before each step: the last one begins below its minutes.
        worked_s = STEP_S * (world.steps[day] - 1)
        consented = world.agrees & (day <= world.revokes)
        sends = world.called[day] & consented & world.policy.allows(conditions, worked_s)
        # Clips of noon are held at each round of the seven days after it.
        spoken = slice(max(0, day - 7), day)
        kept = world.speaks[spoken] & consented
        yield {
            int(phone): world.says[spoken][kept[:, phone], phone].tolist()
            for phone in np.flatnonzero(sends)
        }


def agree(folder, phones, days, *, uploads):
    """Lets phones and rules live; to put every parcel on disk and off it takes minutes."""
    world = World(phones, days)
    devices = [
        Device(world, folder / str(number), number, uploads=uploads) for number in range(phones)
    ]
    taken, clips = 0, 0
    for day, expected in enumerate(vectorized(world)):
        sent = {device.number: device.live(day) for device in devices}
        sent = {number: found for number, found in sent.items() if found is not None}
        assert {number: held for number, (held, _) in sent.items()} == expected
        words = {number: world.bits(day, number, held) for number, held in expected.items()}
        if sent:
            np.testing.assert_array_equal(
                ring_sum([vector for _, vector in sent.values()], world.plan.bits),
                ring_sum(list(words.values()), world.plan.bits),
            )
        taken += len(sent)
        clips += sum(map(len, expected.values()))
    for device in devices:
        taken -= len(device.left())
        device.phone.store.close()
    assert taken == 0 or not uploads, "every leaving is a row of its phone"
    return clips


def test_a_dozen_phones_in_ten_days(tmp_path):
    assert agree(tmp_path, 12, 10, uploads=True) > 5


@pytest.mark.slow
def test_two_hundred_phones_in_thirty_days(tmp_path):
    assert agree(tmp_path, 200, 30, uploads=False) > 500
