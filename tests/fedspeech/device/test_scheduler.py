"""A phone works when nothing speaks against it, stops within a step, and loses nothing by it."""

import dataclasses
import random

import numpy as np
import pytest

from fedspeech.device.day_model import DayModel
from fedspeech.device.scheduler import Condition, Scheduler
from fedspeech.device.work_policy import Conditions, WorkPolicy
from fedspeech.seeds import stream

GOOD = Condition(charging=True, wifi=True, idle=True, speaking=False, cool=True, battery=0.8)


class Descent:
    """Training in small: each step reads the state before it, and a stream of its own."""

    def __init__(self, steps=40):
        self.parameters, self.steps, self.taken = np.zeros(6), steps, 0

    @property
    def done(self):
        return self.taken == self.steps

    def step(self):
        rng = stream(1, "batch", self.taken)
        x = rng.normal(size=(8, 6))
        self.parameters = self.parameters - 0.1 * x.T @ (np.tanh(x @ self.parameters) - x[:, 0]) / 8
        self.taken += 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"speaking": True}, "the user speaks"),
        ({"cool": False}, "the phone is hot"),
        ({"idle": False}, "the phone is in use"),
        ({"charging": False}, "the phone is not charged"),
        ({"wifi": False}, "the network is metered"),
        ({"battery": 0.29}, "the battery is below 30%"),
    ],
)
def test_each_condition_alone_stops_work_and_a_policy_may_waive_some(change, reason):
    condition = dataclasses.replace(GOOD, **change)
    assert Scheduler(WorkPolicy()).refuses(GOOD, day=0) == ""
    assert Scheduler(WorkPolicy()).refuses(condition, day=0) == reason
    waived = WorkPolicy(wifi=False, charging=False, idle=False, least_battery=0.0)
    still = reason if "speaking" in change or "cool" in change else ""
    assert Scheduler(waived).refuses(condition, day=0) == still


def test_work_that_is_cut_anywhere_any_number_of_times_ends_the_same():
    whole = Descent()
    assert Scheduler(WorkPolicy()).run(whole, condition=lambda: GOOD, day=lambda: 0, step_s=1) == ""
    for seed in range(20):
        rng, work, cuts = random.Random(seed), Descent(), 0
        scheduler = Scheduler(WorkPolicy())

        def condition(rng=rng):
            return dataclasses.replace(GOOD, speaking=rng.random() < 0.3)

        while reason := scheduler.run(work, condition=condition, day=lambda: 0, step_s=1):
            assert reason == "the user speaks"
            cuts += 1
        assert cuts > 3
        assert work.parameters.tobytes() == whole.parameters.tobytes()


def test_no_step_is_taken_after_the_user_begins_to_speak():
    work, asked = Descent(), []

    def condition():
        asked.append(work.taken)
        return dataclasses.replace(GOOD, speaking=work.taken >= 7)

    Scheduler(WorkPolicy()).run(work, condition=condition, day=lambda: 0, step_s=1)
    assert work.taken == 7
    assert asked == list(range(8)), "asked before each step"


def test_minutes_are_of_the_day_and_a_clock_set_back_brings_none():
    scheduler, today = Scheduler(WorkPolicy(minutes_a_day=0.1)), [3]
    work = Descent()

    def run():
        return scheduler.run(work, condition=lambda: GOOD, day=lambda: today[0], step_s=1)

    assert run() == "it has worked 0.1 minutes today"
    assert work.taken == 6
    today[0] = 2
    assert run() == "it has worked 0.1 minutes today"
    assert work.taken == 6
    today[0] = 4
    run()
    assert work.taken == 12
    again = Scheduler(scheduler.policy, day=scheduler.day, worked_s=scheduler.worked_s)
    assert again.refuses(GOOD, day=4) == "it has worked 0.1 minutes today"


def test_one_phone_and_many_follow_one_rule_under_every_policy_and_condition():
    """All 32 combinations of conditions, at both sides of each threshold, under 8 policies.

    A battery or a count that nobody knows is not enough, for one as for many.
    """
    unknown = float("nan")
    batteries, worked = [0.29, 0.3, unknown], [0.0, 1799.0, 1800.0, unknown]
    grid = np.array(np.meshgrid(*[[False, True]] * 5, batteries, worked))
    columns = grid.reshape(7, -1)
    conditions = Conditions(*(flags.astype(bool) for flags in columns[:5]), columns[5])
    for number in range(8):
        policy = WorkPolicy(wifi=bool(number & 1), charging=bool(number & 2), idle=bool(number & 4))
        allowed = policy.allows(conditions, columns[6])
        for place, worked_s in enumerate(columns[6]):
            one = Scheduler(policy, day=0, worked_s=worked_s)
            refused = one.refuses(Condition.of(conditions, place), day=0)
            assert allowed[place] == (refused == "")


def test_a_phone_in_its_days_never_works_while_its_user_speaks_or_holds_it():
    days, rng = DayModel(seed=4), random.Random(1)
    for _ in range(300):
        hour, phone = rng.uniform(0, 336), rng.randrange(10_000)
        condition = Condition.of(days.conditions(hour, [phone]))
        if not Scheduler(WorkPolicy()).refuses(condition, day=0):
            assert condition.idle
            assert not condition.speaking
