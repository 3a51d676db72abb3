"""The page of a tuning in a real browser: maps with contours, the front, the budget."""

import pytest
from chromium import CHROMIUM, Browser
from tiny_experiment import cache, tiny_scenario

from simulations.tuning.tuner import Request, tune

pytestmark = pytest.mark.browser

REQUESTS = {
    "grid": Request(
        mode="grid", clip_norm=(0.05, 0.1, 0.2), noise_multiplier=(0.5, 1.0, 2.0), seeds=2
    ),
    "pareto": Request(mode="pareto", trials=5, seeds=1),
}
PLOTS = {
    "grid": ["accuracy", "worst", "front", "spending"],
    "pareto": ["front", "spending"],
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One page of every mode, of groups small enough for three held-out phones."""
    folder = tmp_path_factory.mktemp("tunings")
    scenario = tiny_scenario("evaluation.min_segment_phones=1", "privacy.participation=fixed_size")
    return {
        mode: tune(scenario, request, out=folder / mode, workers=1, cache=cache()) / "tuning.html"
        for mode, request in REQUESTS.items()
    }


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("mode", REQUESTS)
def test_every_picture_is_drawn_and_fits_the_screen(browser, pages, mode, width, scheme):
    browser.open(pages[mode], width, scheme)
    drawn = browser.evaluate("""[...document.querySelectorAll('figure > .plot')].map((place) =>
        [place.id.slice(5), place.querySelectorAll('.trace path, .hm image').length])""")
    assert [key for key, _ in drawn] == PLOTS[mode]
    assert all(count for _, count in drawn), drawn
    assert browser.width() == width
    assert browser.complaints == []
    assert browser.outside() == []


def test_contours_say_their_epsilon_and_the_ring_is_on_the_recommended_cell(browser, pages):
    browser.open(pages["grid"], 1280)
    labels = browser.evaluate(
        "[...document.querySelectorAll('#plot-accuracy .textpoint text')].map(t => t.textContent)"
    )
    assert [label for label in labels if label.strip().startswith("ε ")]
    marker = browser.evaluate("""(() => {
        const {data} = document.getElementById('plot-accuracy');
        const ring = data[data.length - 1];
        return [10 ** ring.x[0], 10 ** ring.y[0]].map((value) => value.toPrecision(3));
    })()""")
    text = browser.evaluate("document.querySelector('.verdict').innerText")
    clip, noise = (float(value) for value in marker)
    assert f"clip norm {clip:g}, noise multiplier {noise:g}" in text
