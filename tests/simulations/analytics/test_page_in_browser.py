"""The page of a release in a real browser: bars, withheld cells, the price."""

import dataclasses

import pytest
from chromium import CHROMIUM, Browser

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.estimate import Estimate
from simulations.analytics.answer import Analysis
from simulations.analytics.page import render
from simulations.analytics.plan_file import plan_from

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.broken=1'>"


@pytest.fixture
def page(tmp_path):
    """A release with a negative estimate, a withheld cell, and names that are markup."""
    plan = PrivacyPlan(
        dimension=4, clip_norm=1.0, noise_multiplier=4.0, population=1000, rounds=1,
        participation_probability=1.0, max_participations=1, min_cohort=700, min_reporting=600,
        dropout_rate=0.0, delta=1e-5, epsilon_budget=10.0, secure_aggregation="ideal", whole=True,
    )  # fmt: skip
    file = plan_from(
        {"query": "histogram", "epsilon": 1.0, "window": {"first_day": 0}, "description": HOSTILE},
        "kitchen",
    )

    def cell(name, value):
        return Estimate(
            of="phones", segment=(), cell=(name,), value=value, low=value - 40, high=value + 50,
            level=0.95, count=value, noise_stddev=20.0, sampling_stddev=0.0,
        )  # fmt: skip

    cells = (cell("a long name of a cell, " * 4, 1234.0), cell(HOSTILE, -3.0), cell("b", 70.0))
    one = plan.guarantee(1)
    found = Analysis(
        path=tmp_path, plan=file, estimates=(*cells, cell("few", 5.0).without("withheld: few")),
        guarantee=one, population=dataclasses.replace(one, epsilon_release=2.0), reporting=990,
    )  # fmt: skip
    (tmp_path / "analysis.html").write_text(render(found), "utf-8")
    return tmp_path / "analysis.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_fits_the_screen(tmp_path, page, width, scheme):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(page, width, scheme)
        assert browser.width() == width
        assert browser.complaints == []
        assert browser.outside() == []
        bars = browser.evaluate("""[...document.querySelectorAll('.guardrails .span')].map(
            (bar) => bar.getBoundingClientRect().width)""")
        assert len(bars) == 3
        assert all(bar > 1 for bar in bars)
        assert browser.evaluate("document.querySelectorAll('.price').length") == 4
        assert browser.evaluate("window.broken === undefined")
        assert browser.evaluate("document.querySelectorAll('main img').length") == 0
    finally:
        browser.close()
