"""The page says of an attack what its figures say, and no more."""

import math

import pytest

from fedspeech.evaluation.metric import Interval, Metric
from simulations.audits.curves import best_of_each, success
from simulations.audits.page import best, in_short, render, where_at_chance
from simulations.audits.results import (
    AttackCurve,
    Attacked,
    CanaryBound,
    Cell,
    Point,
    Promise,
    ShownEpsilon,
)


def eer(value, around=0.05):
    return Metric(
        name="equal error rate", value=value, by_chance=0.5, lower_is_better=True,
        interval=Interval(low=max(0, value - around), high=min(1, value + around)),
    )  # fmt: skip


def cell(protections, metrics=(), unasked="", attack="weight cosine"):
    return Cell(
        observer="server", protections=protections, secret="speaker", attack=attack,
        knowledge="other utterances of every candidate", observations=8, metrics=metrics,
        unasked=unasked, seconds=1.0,
    )  # fmt: skip


CELLS = (
    cell(("nothing",), (eer(0.1),)), cell(("nothing",), (eer(0.2),), attack="another"),
    cell(("secure aggregation",), (eer(0.5),)), cell(("DP",), (eer(0.47),)),
    cell(("both",), unasked="there are sums alone"),
)  # fmt: skip


def attacked(cells=CELLS, curves=()):
    promises = [
        Promise(observer="server", protection=protection, epsilon=epsilon, accuracy=0.8)
        for protection, epsilon in (("nothing", math.inf), ("both", 13.991))
    ]
    return Attacked(
        scenario="quick", recorded=False, phones=240, candidates=120, absent=60, public=136,
        rounds=8, cohort=60, mechanism="distributed", noise_multiplier=1, delta=1 / 2400,
        promises=tuple(promises), cells=tuple(cells), curves=tuple(curves), traffic=(),
    )  # fmt: skip


def test_a_place_shows_the_attack_that_did_best():
    found = attacked()
    assert best(found, "server", "speaker", "nothing").attack == "weight cosine"
    assert best(found, "server", "speaker", "both").unasked == "there are sums alone"
    assert best(found, "reader", "speaker", "nothing") is None


def test_what_is_not_told_from_chance_is_not_called_private():
    said = list(in_short(attacked()))
    assert said[0] == "Under nothing: whose contribution it is (by the server)."
    assert said[1] == "Under secure aggregation: no attack tried was better than chance."
    # Nothing is known of a protection under which no attack had anything to work on.
    assert said[3] == "Under both: none of these attacks could be tried."
    page = render(attacked())
    assert "is not privacy" in page
    assert "there are sums alone" in page
    assert "14.0" in page  # an epsilon is rounded up
    assert "∞" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            (0.1, 0.2, 0.5, 0.5),
            "not told from chance from 1 noise multiplier on: there accuracy is 75.0 %",
        ),
        ((0.1, 0.5, 0.2, 0.5), "not told from chance from 2 noise multiplier on"),
        ((0.1, 0.5, 0.5, 0.2), "still better than chance at 2 noise multiplier"),
        ((0.5, 0.5, 0.5, 0.6), "not told from chance at any setting shown"),
    ],
)
def test_where_an_attack_reaches_chance_is_where_it_stays(values, said):
    points = tuple(
        Point(x=x, figures={"speaker: a": eer(value)}, accuracy=0.8 - x / 20, epsilon=8 / (x or 1))
        for x, value in zip((0, 0.5, 1, 2), values, strict=True)
    )
    curve = AttackCurve(key="noise", title="t", says="s", x="noise multiplier", points=points)
    (words,) = where_at_chance(curve)
    assert said in words
    assert words.endswith(".")
    page = render(attacked(curves=(curve,))).replace("\u00a0", " ")
    assert page.count(words) == 1


def test_success_is_the_way_from_chance_to_certainty():
    assert success(eer(0.5)) == 0
    assert success(eer(0.0, 0)) == 1
    assert success(eer(0.6)) < 0
    assert success(Metric(name="balanced accuracy", value=0.6, by_chance=0.2)) == pytest.approx(0.5)


def test_curves_follow_the_best_attack_and_none_that_failed():
    class Named:
        secret, name = "speaker", "weight cosine"

    class Other:
        secret, name = "speaker", "another"

    assert best_of_each(CELLS, [Named, Other]) == (Named,)
    failed = [cell(("nothing",), (eer(0.5),))]
    assert best_of_each(failed, [Named]) == ()


def test_a_broken_claim_is_the_first_line_of_the_page():
    """Whether canaries or an attack on membership break it."""
    says = "CLAIM VIOLATED: the server: epsilon is at least 9"
    bound = CanaryBound(
        game="one canary", observer="the server", relation="zero-out", claimed=2.0, at_least=9.0,
        broken=True, says=says,
    )  # fmt: skip
    shown = ShownEpsilon(claimed=2.0, at_least=9.0, broken=True, says=says)
    by_attack = CELLS[0].model_copy(update={"shown": shown})
    for found in (
        attacked().model_copy(update={"bounds": (bound,)}), attacked(cells=(by_attack,))
    ):  # fmt: skip
        page = render(found)
        body = page[page.index("<main") :]
        assert body.index("CLAIM VIOLATED") < body.index("<h1>")
    assert "CLAIM VIOLATED" not in render(attacked())
