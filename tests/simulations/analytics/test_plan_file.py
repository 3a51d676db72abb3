"""A plan file is refused by name, rule and value, or it is a query with a price."""

import copy
import dataclasses
import math
import re
import tomllib
from pathlib import Path

import pytest
import tomli_w

from fedspeech.device.telemetry import telemetry_schema
from fedspeech.errors import ScenarioError
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.ratios import Ratio
from simulations.analytics.asking import query_of
from simulations.analytics.plan_file import (
    AskingSettings,
    PlanFile,
    plan_from,
    plan_names,
    read_plan,
)
from simulations.analytics.pricing import priced_release
from simulations.report.plan_price import error_to_expect
from simulations.scenario.reading import read_scenario
from simulations.scenario.sections import keys_of, sections_in
from simulations.setup.planning import PlanSizes

SCHEMA = telemetry_schema(("yes", "no"))
SIZES = PlanSizes(population=3000, dimension=1, unit="phone", availability=1.0, momentum=0.9)
GOOD = {
    "query": "histogram",
    "segments": ["device"],
    "epsilon": 1.0,
    "window": {"first_day": 0, "days": 7},
    "where": {"event": ["wake_trigger"]},
    "bound": {"max_cells": 4, "max_per_cell": 2},
    "settings": {"axes": ["day_part"]},
}


def changed(path, value):
    """The good plan with one key set, or removed where the value is None."""
    found = copy.deepcopy(GOOD)
    *sections, key = path.split(".")
    place = found
    for section in sections:
        place = place.setdefault(section, {})
    if value is None:
        del place[key]
    else:
        place[key] = value
    return found


def asked(document):
    return query_of(plan_from(document, "bad"), SCHEMA, 3000)


BAD = [
    ("k_minn", 20, r"unknown key k_minn; did you mean k_min\?"),
    ("window.first", 1, r"unknown key window.first; did you mean window.first_day\?"),
    ("privacy.mechanisms", "central", r"did you mean privacy.mechanism\?"),
    ("query", None, "query is required: What is counted"),
    ("epsilon", None, "epsilon is required: Epsilon of this release"),
    ("window", None, r"window is required: .*first_day, days"),
    ("window.first_day", None, "window.first_day is required"),
    ("query", 3, "query: Input should be a valid string, got 3"),
    ("k_min", 0, "k_min: .*greater than or equal to 1, got 0"),
    ("k_min", "20", "k_min: .*valid integer, got '20'"),
    ("k_min", 2.5, "k_min: .*valid integer, got 2.5"),
    ("k_min", True, "k_min: .*valid integer, got True"),
    ("epsilon", math.nan, "epsilon: .*greater than 0, got nan"),
    ("epsilon", 0, "epsilon: .*greater than 0, got 0"),
    ("epsilon", "1", "epsilon: .*valid number, got '1'"),
    ("delta", math.nan, "delta: .*, got nan"),
    ("delta", 1.0, "delta: .*less than 1, got 1.0"),
    ("window.days", 3, "window.days: Input should be 1 or 7, got 3"),
    ("window.first_day", -1, "window.first_day: .*greater than or equal to 0, got -1"),
    ("bound.max_cells", 0, "bound.max_cells: .*got 0"),
    ("bound.max_per_cell", math.inf, "bound.max_per_cell: .*got inf"),
    ("privacy.participation_probability", 1.5, "participation_probability: .*got 1.5"),
    ("privacy.mechanism", "laplace", "privacy.mechanism: .*got 'laplace'"),
    ("query", "histogramm", r"there is no query 'histogramm'; did you mean 'histogram'\?"),
    ("query", "os:system", "a query must be of fedspeech.queries or be declared"),
    ("query", "fedspeech.queries.estimate:Estimate", "must be a class of queries, a Query"),
    ("segments", ["acent"], r"segments: there is no attribute 'acent'; did you mean 'accent'\?"),
    ("segments", ["day_part"], "segments: there is no attribute 'day_part'"),
    ("segments", ["device", "device"], "segments must differ from one another"),
    ("segments", [{"nam": "device"}], "segments must be a list of attributes"),
    ("segments", [{"name": "device", "leave_out": ["head_set"]}], "did you mean 'headset'"),
    ("segments", [{"name": "device", "merge": {}}], "did you mean 'merged'"),
    ("where", {"events": ["wake_trigger"]}, r"no column 'events'; did you mean 'event'\?"),
    ("where", {"event": ["wake"]}, "where.event: there is no value 'wake'"),
    ("where", {"event": []}, "where.event must be a list of values"),
    ("settings.axes", ["daypart"], r"no column 'daypart'; did you mean 'day_part'\?"),
    ("settings.axes", ["day"], "there is no column 'day'"),
    ("settings.axes", "day_part", "settings.axes must be a list of columns"),
    ("settings.axis", ["day_part"], r"no setting of histogram 'axis'; did you mean 'axes'\?"),
    ("shares", {"accent": {"plain": 0.5}}, "shares: there is no segment 'accent'"),
    ("shares", {"device": {"handset": 0.5}}, "shares of device must name every value"),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD, ids=lambda x: str(x)[:28])
def test_a_bad_plan_file_is_refused_with_name_rule_and_value(key, value, words):
    with pytest.raises(ScenarioError, match=words):
        asked(changed(key, value))


def test_the_plan_that_was_made_bad_is_good():
    query = asked(GOOD)
    assert isinstance(query, Histogram)
    assert (query.first_day, query.last_day, query.l2_bound) == (0, 6, 4.0)
    assert [axis.name for axis in query.segments] == ["device"]


def test_settings_that_a_query_needs_are_asked_for():
    document = changed("query", "ratio") | {"settings": {"denominator": {}}}
    with pytest.raises(ScenarioError, match=r"settings\.numerator is required by query = 'ratio'"):
        asked(document)
    with pytest.raises(ScenarioError, match=r"settings\.numerator must be a table of columns"):
        asked(document | {"settings": {"numerator": ["event"]}})
    made = asked(document | {"settings": {"numerator": {"event": ["correction"]}}})
    assert isinstance(made, Ratio)


def test_a_named_metric_has_its_own_conditions():
    document = changed("query", "false_accepts_per_hour") | {"settings": {}}
    assert asked(changed("query", "false_accepts_per_hour") | {"settings": {}, "bound": {}}) == (
        asked(document | {"bound": {"max_per_cell": 8}})
    )
    with pytest.raises(ScenarioError, match="no setting of false_accepts_per_hour 'numerator'"):
        asked(document | {"settings": {"numerator": {}}})


def test_small_segments_are_merged_before_anybody_is_asked():
    values = telemetry_schema().names("device")
    shares = {"device": dict.fromkeys(values, 0.3) | {"unstated": 0.001, "other": 0.002}}
    (axis,) = asked(GOOD | {"shares": shares, "k_min": 20}).segments
    # Of 3,000 phones 3 and 6 would be in two of them, and 9 in both together: 40 are needed.
    assert len(axis) == len(values) - 2
    (alone,) = asked(GOOD | {"shares": shares, "k_min": 1}).segments
    assert len(alone) == len(values)


@pytest.mark.parametrize("text", ["query = ", "query = histogram", "\x00", "[window\n"])
def test_no_toml_is_refused(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"plan\.toml is not valid TOML"):
        read_plan(str(path))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match=r"there is no plan file .*none\.toml: No such file"):
        read_plan(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ScenarioError, match=r"there is no plan file .*: Is a directory"):
        read_plan(str(tmp_path / "folder.toml"))
    (tmp_path / "plan.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ScenarioError, match="must be UTF-8 text"):
        read_plan(str(tmp_path / "plan.toml"))
    with pytest.raises(ScenarioError, match="did you mean 'wakes-by-device'"):
        read_plan("wake-by-device")


def test_a_plan_file_survives_a_round_trip_and_names_its_ledger_from_its_folder(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(GOOD | {"ledger": "population.jsonl"}))
    found = read_plan(str(path))
    assert found.ledger == str(tmp_path / "population.jsonl")
    assert found.name == "plan"
    (tmp_path / "again.toml").write_text(found.to_toml())
    assert read_plan(str(tmp_path / "again.toml")) == found


@pytest.mark.parametrize("name", plan_names())
def test_what_ships_is_a_plan(name):
    plan = read_plan(name)
    assert (plan.name, bool(plan.description)) == (name, True)
    if plan.query != "evaluation":
        query_of(plan, SCHEMA, 3000)


@pytest.fixture(scope="module")
def priced():
    plan = plan_from(GOOD, "good")
    settings = read_scenario("quick").privacy
    return priced_release(plan, query_of(plan, SCHEMA, 3000), settings, SIZES)


@pytest.mark.slow
def test_noise_follows_from_epsilon_and_the_price_is_the_plans_own(priced):
    """The plan that runs is the plan that is priced: one object, one epsilon."""
    plan = priced.plan
    assert 0.99 < priced.price.release.epsilon <= 1.0
    alone = plan.guarantee(plan.rounds)
    assert alone.epsilon_release == priced.price.release.epsilon
    assert alone.epsilon_server == priced.price.server.epsilon
    assert (plan.clip_norm, plan.dimension) == (priced.query.l2_bound, priced.query.dimension)
    assert (plan.rounds, plan.participations) == (1, 1)
    assert plan.participation_probability == 1.0
    less = dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier * 0.999)
    assert less.guarantee(1).epsilon_release > 1.0
    words = error_to_expect(priced.expected)
    assert f"+-{priced.expected.half_width:.3g} with 95% probability" in words


@pytest.mark.slow
def test_epsilon_that_no_noise_meets_is_refused_with_what_is_nearest():
    plan = plan_from(GOOD | {"epsilon": 0.001}, "good")
    few = dataclasses.replace(SIZES, population=40)
    with pytest.raises(ScenarioError, match=r"good: epsilon=0\.001: no noise is enough .*nearest"):
        priced_release(plan, query_of(plan, SCHEMA, 40), read_scenario("quick").privacy, few)


@pytest.mark.parametrize(("epsilon", "mechanism"), [(math.inf, "distributed"), (1.0, "none")])
def test_infinite_epsilon_is_for_no_noise_alone(epsilon, mechanism):
    plan = plan_from(GOOD | {"epsilon": epsilon, "privacy": {"mechanism": mechanism}}, "good")
    with pytest.raises(
        ScenarioError, match=r'epsilon must be inf where privacy\.mechanism is "none"'
    ):
        priced_release(plan, query_of(plan, SCHEMA, 3000), read_scenario("quick").privacy, SIZES)


PAGE = (Path(__file__).parents[3] / "docs" / "plan-files.md").read_text("utf-8")


def keys(path, section):
    """Dotted names of all keys, sections that are named as such excepted."""
    for name, field in keys_of(section).items():
        below = [one for one in sections_in(field) if name != "privacy"]
        if below:
            yield from keys(f"{name}.", below[0])
        else:
            yield f"{path}{name}"


def test_the_page_names_every_key_and_its_files_are_plans():
    for key in (*keys("", PlanFile), *keys_of(AskingSettings)):
        assert f"`{key}`" in PAGE, key
    found = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert [plan_from(tomllib.loads(text), "page").query for text in found] == [
        "histogram", "evaluation"
    ]  # fmt: skip
    assert asked(tomllib.loads(found[0])).l2_bound == 4.0


# One key of a plan that an attacker edits to read the same counts again, and an answer that it had.
SAME = [
    ("k_min", 21), ("epsilon", 0.9), ("delta", 1e-6), ("name", "another"), ("description", "other"),
    ("bound.max_cells", 3), ("bound.max_per_cell", 1), ("window.days", 1),
    ("segments", [{"name": "device", "merged": {"near": ["handset", "headset"]}}]),
    ("segments", [{"name": "device", "leave_out": ["far_field"]}]),
    ("settings.axes", [{"name": "day_part", "leave_out": ["night"]}]),
    ("settings.axes", [{"name": "day_part", "merged": {"dark": ["night", "evening"]}}]),
    ("where.event", ["wake_trigger", "wake_trigger"]),
    ("shares", {"device": dict.fromkeys(SCHEMA.names("device"), 0.001) | {"handset": 0.9}}),
    ("privacy", {"mechanism": "central"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), SAME)
def test_a_plan_with_one_key_edited_asks_the_same_question(path, value):
    first, edited = asked(GOOD), asked(changed(path, value))
    assert first.release_window.overlaps(edited.release_window)


def test_a_quantile_is_the_same_question_whichever_is_asked_and_however_it_is_found():
    plan = {**GOOD, "query": "quantile", "settings": {"axis": "score_bucket"}}
    bound = {"bound": {"max_per_cell": 1}}
    one, many = (
        asked({**plan, **bound, "settings": {"axis": "score_bucket", "quantiles": levels}})
        for levels in ([0.5], [0.1, 0.5, 0.9])
    )
    assert type(one) is not type(many)  # a search and a tree
    assert one.release_window.overlaps(many.release_window)
    other = asked({**plan, **bound, "settings": {"axis": "snr_bucket"}})
    assert not one.release_window.overlaps(other.release_window)


@pytest.mark.parametrize(("path", "value"), [
    ("where.event", ["correction"]), ("settings.axes", ["environment"]), ("segments", ["accent"]),
    ("window.first_day", 7), ("query", "confusion"),
])  # fmt: skip
def test_another_event_column_or_week_is_another_question(path, value):
    plan = changed(path, value)
    if value == "confusion":
        plan["settings"] = {"axes": ["word_or_intent", "answered"]}
    assert not asked(GOOD).release_window.overlaps(asked(plan).release_window)
