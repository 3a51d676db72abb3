"""The page in a real browser."""

import dataclasses

import pytest
from chromium import CHROMIUM, Browser

from fedspeech.evaluation.metric import Segment
from simulations.report.writing import write_report

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_draws_every_plot_and_fits_the_screen(browser, tmp_path, example, width, scheme):
    run = example.write(tmp_path / "run")
    browser.open(write_report(run), width, scheme)
    browser.screenshot(tmp_path / f"{width}-{scheme}.png")
    drawn = browser.evaluate("""[...document.querySelectorAll('figure > .plot')].map(
        (place) => place.querySelectorAll('.trace path').length)""")
    assert len(drawn) == 13
    assert all(drawn), drawn
    assert browser.width() == width
    assert browser.complaints == []
    assert browser.outside() == []


def test_hostile_names_are_shown_and_not_run(browser, tmp_path, example):
    name = "<img src=x onerror='window.broken=1'><script>window.broken=1</script>"
    section = example.summary().section("accuracy")
    segment = Segment(name=name, value=name)
    metrics = tuple(
        dataclasses.replace(metric, segment=segment if metric.segment else None)
        for metric in section.metrics
    )
    hostile = dataclasses.replace(section, metrics=metrics)
    run = example.write(
        tmp_path / "run", found_summary=example.changed_sections(example.summary(), hostile)
    )
    browser.open(write_report(run), 1280)
    assert browser.evaluate("window.broken === undefined")
    assert browser.evaluate("document.body.innerText.includes('<script>window.broken=1')")
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0
    assert browser.complaints == []


def test_dark_page_prints_on_white(browser, tmp_path, example):
    run = example.write(tmp_path / "run")
    browser.open(write_report(run), 1280, "dark")
    color = "getComputedStyle(document.body).backgroundColor"
    assert browser.evaluate(color) != "rgb(255, 255, 255)"
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate(color) == "rgb(255, 255, 255)"
    ink = browser.evaluate("document.querySelector('.plot .xtitle').style.fill")
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert ink != browser.evaluate("document.querySelector('.plot .xtitle').style.fill")
