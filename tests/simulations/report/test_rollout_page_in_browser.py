"""The page of a roll-out in a real browser: intervals, the course, reasons."""

import pytest
from chromium import CHROMIUM, Browser

from fedspeech.hash_chain import forget_head
from fedspeech.rollout.bound import Bound
from fedspeech.rollout.decisions import Rollout
from fedspeech.rollout.guardrails import SegmentCounts, Window
from fedspeech.rollout.plan import Evaluation, RolloutPlan, Stage
from simulations.report.rollout_page import render

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.broken=1'>"


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


@pytest.fixture
def page(tmp_path):
    """A roll-out that passes a stage and is stopped in the next, with a name that is markup."""
    plan = RolloutPlan(
        phones=10**6, segments={"accent": {"north": 0.6, "south": 0.3, HOSTILE: 0.1}},
        stages=(Stage(share=0.1), Stage(share=0.5), Stage(share=1.0)),
        evaluation=Evaluation(epsilon=float("inf"), phone_stddev=0.1),
    )  # fmt: skip
    hashes = {
        f"{name}_sha256": "ab" * 32
        for name in ("base", "adapter", "parameters", "card", "metrics")
    }  # fmt: skip
    release = Bound(model="kitchen", version="0.2", **hashes)
    rollout = Rollout.start(tmp_path / "rollout", plan, release=release, control=None)

    def side(total, loss):
        losses = zip(plan.cells, (0.0, 0.0, loss), strict=True)
        return tuple(
            SegmentCounts(
                segment=name, correct=(0.9 - loss) * total, total=total, noise_stddev=50.0
            )
            for name, loss in losses
        )

    for day, (total, loss) in enumerate([(1_200.0, 0.01), (40_000.0, 0.0), (40_000.0, 0.08)]):
        new, old = side(total, loss), side(40_000.0, 0.0)
        rollout.look(Window(first_day=day, last_day=day, new=new, old=old))
    assert [look.decision for look in rollout.looks] == ["watch", "promote", "roll back"]
    file = tmp_path / "rollout.html"
    file.write_text(render(rollout), "utf-8")
    yield file
    forget_head(tmp_path / "rollout" / "rollout.jsonl")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_fits_the_screen_and_draws_intervals(browser, page, width, scheme):
    browser.open(page, width, scheme)
    drawn = browser.evaluate("""[...document.querySelectorAll('figure > .plot')].map(
        (place) => place.querySelectorAll('.trace path').length)""")
    assert drawn
    assert all(drawn)
    assert browser.width() == width
    assert browser.complaints == []
    assert browser.outside() == []
    bars = browser.evaluate("""[...document.querySelectorAll('.guardrails .span')].map(
        (bar) => bar.getBoundingClientRect().width)""")
    assert len(bars) >= 3
    assert all(bar > 1 for bar in bars)
    assert browser.evaluate("document.querySelector('.banner').innerText.startsWith('Rolled back')")
    assert browser.evaluate("window.broken === undefined")
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0
