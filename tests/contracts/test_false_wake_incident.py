"""The story of docs/debugging-without-audio.md at a small size: counts find it, and end it."""

from pathlib import Path

import pytest
from tiny_experiment import cache

import fedspeech as fs
from fedspeech.errors import AlreadyReleased

SMALL = (
    "corpus.federated_phones=2000", "corpus.voices=12", "corpus.held_out_phones=3",
    "corpus.validation_speakers=2", "privacy.epsilon_budget=60.0", "telemetry.jingle.per_day=0.8",
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Asks the shipped plans on one ledger, each once."""
    folder = tmp_path_factory.mktemp("incident")
    scenario = fs.read_scenario("false-wake-incident", SMALL)

    def ask(plan, name=None):
        return fs.analyze(
            plan, scenario, ledger=folder / "population.jsonl", out=folder / (name or plan),
            workers=1, cache=cache(), progress=False,
        )  # fmt: skip

    return ask


def by_label(analysis):
    return {(*one.segment, *one.cell): one for one in analysis.estimates}


def test_one_class_in_one_quarter_of_the_day_stands_out(asked):
    found = by_label(asked("false-wakes-where"))
    evening = found["headset", "evening"]
    for device in ("handset", "speakerphone", "far_field", "cheap_mic"):
        other = found[device, "evening"]
        assert other.value is None or evening.low > other.high
    for part in ("night", "morning", "afternoon"):
        other = found["headset", part]
        assert other.value is None or evening.low > other.high


def test_television_is_around(asked):
    found = by_label(asked("false-wakes-around"))
    television = found["headset", "television_or_music"]
    rest = [one for label, one in found.items() if label[0] == "headset" and one != television]
    assert all(one.value is None or television.low > one.high for one in rest)


def test_the_rate_falls_after_the_threshold_and_its_price_is_seen(asked):
    before, after = (by_label(asked(f"false-accepts-{when}")) for when in ("before", "after"))
    (headset,) = (label for label in before if label[0] == "headset")
    assert after[headset].high < before[headset].low
    with pytest.raises(AlreadyReleased):
        asked("false-accepts-before", "again")


def test_the_page_tells_of_this_scenario_and_asks_every_plan_once():
    page = (Path(__file__).parents[2] / "docs" / "debugging-without-audio.md").read_text("utf-8")
    scenario = fs.read_scenario("false-wake-incident")
    assert f"{scenario.corpus.federated_phones:,} simulated phones" in page
    assert f"`stage = {scenario.stage}`" in page
    shares = [f"{100 * share:g}" for share in scenario.telemetry.threshold_change.stages]
    assert f"goes to {', '.join(shares[:-1])} and {shares[-1]} % of them" in page
    for question in ("wakes-where", "wakes-around", "wakes-scores"):
        assert page.count(f"fedspeech analyze false-{question} ") == 1
    for question in ("accepts", "rejects"):
        for when in ("before", "after"):
            assert page.count(f"fedspeech analyze false-{question}-{when} ") == 1
