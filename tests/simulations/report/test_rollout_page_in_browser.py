"""The page of a roll-out in a real browser: intervals, the course, reasons."""

import numpy as np
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
    release = Bound(
        model="kitchen", version="0.2", base_sha256="ab" * 32, adapter_sha256="cd" * 32,
        card_sha256="ef" * 32, metrics_sha256="01" * 32,
    )  # fmt: skip
    rollout = Rollout.start(tmp_path / "rollout", plan, release=release, control=None)
    day = 1
    for lost in (0.01, 0.02, 0.025, 0.08):

        def side(total, losses):
            return tuple(
                SegmentCounts(
                    segment=name, correct=(0.9 - loss) * total, total=total, noise_stddev=50.0
                )
                for name, loss in zip(plan.cells, losses, strict=True)
            )

        window = Window(
            first_day=day, last_day=day, old=side(40_000.0, np.zeros(3)),
            new=side(1_200.0 if lost < 0.05 else 40_000.0, (0.0, 0.0, lost)),
        )  # fmt: skip
        if rollout.state == "watching":
            rollout.look(window)
        day += 1
    if rollout.state == "watching":
        rollout.rollback("seen by hand")
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
