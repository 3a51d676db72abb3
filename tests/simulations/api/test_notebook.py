"""In a notebook progress is one output that is redrawn, and what a run gives shows inline."""

import html
import os
import re

import pytest
from chromium import CHROMIUM, Browser
from sources import ROOT
from tiny_experiment import TINY, cache

CELLS = (
    "import fedspeech as fs",
    "scenario = fs.read_scenario('quick', {changes!r})\n"
    "run = fs.simulate(scenario, out={out!r}, workers=1, cache={cache!r})",
    "run",
    "run.guarantee",
    "run.rounds",
    "run.report()",
    "fs.budget(scenario)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs of the cells of a notebook, each a list."""
    nbclient = pytest.importorskip("nbclient", reason="a notebook is run by nbclient")
    pytest.importorskip("ipykernel", reason="a notebook is run by the kernel of IPython")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("notebook")
    places = {"changes": list(TINY), "out": str(folder / "run"), "cache": str(cache())}
    cells = [nbformat.v4.new_code_cell(cell.format(**places)) for cell in CELLS]
    book = nbformat.v4.new_notebook(cells=cells)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        patch.setenv("OMP_NUM_THREADS", "1")
        nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    return [cell.outputs for cell in book.cells]


def shown(output):
    return output["data"]["text/html"]


@pytest.mark.slow
def test_progress_is_one_output_without_cursor_tricks(outputs):
    (progress,) = outputs[1]
    assert progress["output_type"] == "display_data"
    text = html.unescape(shown(progress))
    for words in (
        "12 phones federate",
        "rounds",
        "2/2",
        "round   2/2",
        "epsilon release",
        "report: ",
    ):
        assert words in text
    assert "\x1b" not in text
    assert text.count("<progress") >= 4, "a bar for each stage"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (2, "who must be honest"),
        (3, "epsilon_release = "),
        (4, "<td>completed</td>"),
        (6, "Who must be"),
    ],
)
def test_what_a_run_gives_shows_inline(outputs, cell, words):
    output = outputs[cell][-1]
    assert output["output_type"] == "execute_result"
    assert words in html.unescape(shown(output))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_report_is_drawn_in_its_frame(outputs, tmp_path):
    """Scripts of the page run in the frame, and nothing is asked of the network."""
    (output,) = outputs[5]
    frame = shown(output)
    assert re.match(r'<iframe srcdoc="', frame)
    page = tmp_path / "notebook.html"
    ready = "<script>document.documentElement.dataset.ready = 'yes'</script>"
    page.write_text(f"<!doctype html><html><body>{frame}{ready}</body></html>", "utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(page, 1100)
        assert (
            browser.evaluate(
                "new Promise(done => setTimeout(() => done(document.querySelector('iframe')"
                ".getBoundingClientRect().height), 4000))"
            )
            > 600
        )
        browser.screenshot(tmp_path / "notebook.png")
        assert not browser.complaints
        assert not browser.outside()
    finally:
        browser.close()
