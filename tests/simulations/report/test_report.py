"""The page stands alone, says the guarantee first, and cannot be broken by what is in the data."""

import base64
import dataclasses
import hashlib
import json
import math
import re
import sys
from html.parser import HTMLParser

import pytest

from fedspeech.evaluation.metric import (
    Axis,
    Chart,
    Curve,
    Matrix,
    Metric,
    Section,
    Segment,
    Texts,
)
from simulations.report.writing import write_report
from simulations.results.exported import ExportedFile
from simulations.results.rows import RoundTime
from simulations.results.summary import RunTime


class Page(HTMLParser):
    """Elements, visible text by section, and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style", "nav"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style", "nav"):
            self._open.pop()

    def handle_data(self, data):
        if not self._open:
            self.words.append(data)
        elif self._open[-1] == "script":
            self.scripts.append(data)

    @property
    def prose(self) -> str:
        """Text without the list of contents; what holds numbers together reads as usual."""
        return re.sub(r"\s+", " ", " ".join(self.words)).replace("\u2011", "-")

    @property
    def figures(self) -> list[dict]:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def page(example, tmp_path_factory):
    """The page of a realistic run, which no test changes."""
    run = example.write(tmp_path_factory.mktemp("page") / "run")
    return Page(write_report(run).read_text())


def without_summary(run):
    (run / "summary.json").unlink()
    return run


def test_page_asks_the_network_for_nothing(page):
    loading = {"src", "href", "srcset", "data", "poster", "action", "background", "ping"}
    for tag, attributes in page.elements:
        for name in loading & attributes.keys():
            assert attributes[name].startswith(("data:", "#")), (tag, name)
        assert tag not in ("iframe", "object", "embed", "base", "form")
    style = page.text[page.text.index("<style>") : page.text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_policy_allows_exactly_the_scripts_of_the_page(page):
    policy = next(
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    _, *programs = page.scripts
    found = {base64.b64encode(hashlib.sha256(p.encode()).digest()).decode() for p in programs}
    assert len(programs) == 2
    assert allowed == found
    assert policy.startswith("default-src 'none';")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_page_is_small_enough_to_send(page):
    assert len(page.text.encode()) < 6_000_000


def test_guarantee_is_the_first_section_and_whole(page, example):
    first, second = page.prose.index("What is promised"), page.prose.index("What it brought")
    promise = page.prose[first:second]
    for said in (
        "0.94", "6.21", "Against whoever reads the published models", "Against the server",
        "add/remove", "zero-out", "3.4 × 10⁻⁵", "1 in 30,000", "one phone",
        example.account(1.0).guarantee.trust, "RDP of sums of discrete Gaussians", "15 rounds",
        "Seeded noise: reproducible from the seed, so not for release",
        "A simulator plays both sides", "The secure sum is simulated here (ideal)",
    ):  # fmt: skip
        assert said in promise, said


def test_the_first_screen_has_the_error_the_price_a_date_and_the_contents(page, example):
    head = page.text[page.text.index("<header>") : page.text.index("</header>")]
    assert "ε = 0.94 against readers" in head
    assert example.environment().started_on in head
    links = re.findall(r'<a href="#([\w-]+)">', head)
    assert links == re.findall(r'<h2 id="([\w-]+)"', page.text)
    assert len(links) > 5


def test_terms_of_the_summary_are_explained(page):
    words = page.text[page.text.index('<h2 id="words">') :]
    terms = " ".join(re.findall(r"<dt>(.*?)</dt>", words))
    for needed in ("ε", "δ", "FRR", "FAR", "control", "guard", "worst decile", "cohort"):
        assert needed in terms


@pytest.mark.slow
def test_numbers_are_not_broken_over_lines(page):
    paragraphs = re.findall(r"<p[^>]*>(.*?)</p>", page.text)
    assert any("\u00a0%" in paragraph for paragraph in paragraphs)
    assert not [paragraph for paragraph in paragraphs if re.search(r"\d %", paragraph)]


def test_no_privacy_is_said_loudly(example, tmp_path):
    open_run = {
        "epsilon_release": math.inf, "epsilon_server": math.inf, "mechanism": "none",
        "noise_notice": None, "epsilon_budget": None,
    }  # fmt: skip
    run = example.write(
        tmp_path / "run",
        found_rows=example.rows(**open_run),
        found_summary=example.summary(**open_run),
    )
    page = Page(write_report(run).read_text())
    assert ("div", {"class": "banner loud", "role": "alert"}) in page.elements
    assert "Nothing is promised" in page.prose
    assert "∞" in page.prose
    assert not any(figure["key"].startswith("epsilon") for figure in page.figures)


def test_private_run_has_no_loud_banner(page):
    assert not any("loud" in (a.get("class") or "") for _, a in page.elements)


def test_headline_stands_beside_its_control(page, example):
    accuracy = example.summary().section("accuracy")
    found, worst = accuracy.by_model(), accuracy.by_model("worst decile")
    headline = page.prose[page.prose.index("What it brought") : page.prose.index("Round by round")]
    for model in ("base", "federated", "personalized", "control"):
        around = found[model].interval
        assert f"{100 * found[model].value:.1f} %" in headline
        assert f"{100 * worst[model].value:.1f} %" in headline
        assert f"{100 * around.low:.1f} – {100 * around.high:.1f} %" in headline
    gain = 100 * (found["personalized"].value - found["federated"].value)
    assert f"{gain:+.1f} on federated" in headline
    assert "by luck alone 21.0 %" in headline


def test_every_figure_names_its_visibility_and_has_words_for_who_cannot_see_it(page):
    plots = [a for tag, a in page.elements if a.get("class") == "plot"]
    assert len(plots) == len(page.figures)
    assert {a["id"] for a in plots} == {f"plot-{figure['key']}" for figure in page.figures}
    assert all(a["role"] == "img" and len(a["aria-label"]) > 30 for a in plots)
    captions = page.text.split("<figcaption>")[1:]
    assert len(captions) == len(plots) + 1
    assert all('class="visibility ' in caption.split("</figcaption>")[0] for caption in captions)


@pytest.mark.slow
def test_plots_hold_the_numbers_of_the_run(page, example):
    figures = {figure["key"]: figure for figure in page.figures}
    spent = figures["epsilon-release"]["traces"][0]
    completed = [row for row in example.rows() if row.status == "completed"]
    assert spent["x"] == [row.round for row in completed]
    assert spent["y"] == [row.guarantee.epsilon_release for row in completed]
    assert figures["epsilon-release"]["layout"]["shapes"][0]["y0"] == 1.0
    shots = {trace.get("name"): trace for trace in figures["shots-0"]["traces"]}
    (chart,) = example.summary().section("shots").charts
    assert shots["own examples"]["y"] == [100 * mean for mean in chart.of("personalized")]
    assert shots["control"]["x"] == [0, 1, 2, 3]
    gains = figures["accuracy-0-gains"]["traces"][0]["x"]
    (phones,) = example.summary().section("accuracy").charts
    pairs = zip(phones.of("federated"), phones.of("personalized"), strict=True)
    assert sum(gain < 0 for gain in gains) == sum(after < before for before, after in pairs)


def test_merged_groups_and_those_new_to_the_base_say_so(page):
    assert "other (far-field, headset)" in page.prose
    assert page.prose.count("not in the base’s pre-training data") == 3
    assert "Groups under 5 phones are merged." in page.prose


def test_hostile_names_stay_text(example, tmp_path):
    name = "<script>alert(1)</script>"
    segment = Segment(name=name, value=name)
    metrics = tuple(
        dataclasses.replace(metric, segment=segment if metric.segment else None)
        for metric in example.summary().section("accuracy").metrics
    )
    hostile = dataclasses.replace(example.summary().section("accuracy"), metrics=metrics)
    run = example.write(
        tmp_path / "run",
        scenario=f'name = "{name}"\n',
        found_summary=example.changed_sections(
            example.summary(scenario=name, corpus=name, trust=name), hostile
        ),
    )
    page = Page(write_report(run).read_text())
    assert len(page.scripts) == 3
    assert page.prose.count(name) >= 4
    plot = next(figure for figure in page.figures if figure["key"] == "segment-0")
    labels = [label for trace in plot["traces"] for label in trace["y"]]
    assert all("&lt;script&gt;" in label and "<script" not in label for label in labels)


def test_exported_file_shows_its_parity(page):
    for said in ("export/model_float.tflite", "97.4 kB", "7.6e-06", "1e-04", "100.0 %", "500, 250"):
        assert said in page.prose


def test_every_file_of_the_family_stands_in_the_report(page):
    for said in ("model_int8.tflite", "45.6 kB", "99.62 %", "-0.14", "model_fp16.tflite refused"):
        assert said in page.prose


def test_refused_export_says_why(example, tmp_path):
    run = example.write(
        tmp_path / "run", found_summary=example.summary(export=None, export_refused="parity 3e-2")
    )
    assert "Refused. parity 3e-2" in Page(write_report(run).read_text()).prose


def test_a_file_that_was_not_made_for_want_of_an_extra_names_the_extra(example, tmp_path):
    summary = example.summary(export=None, export_skipped="exporting needs TensorFlow")
    page = Page(write_report(example.write(tmp_path / "run", found_summary=summary)).read_text())
    assert "Not made. exporting needs TensorFlow." in page.prose
    assert "Refused" not in page.prose


def test_without_plotly_every_figure_is_its_open_table(example, tmp_path, page, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    tables = Page(write_report(example.write(tmp_path / "tables")).read_text())
    (said,) = re.findall(r"Tables stand for plots here: [^.]*", tables.prose)
    assert said.endswith("needs plotly: pip install 'fedspeech[plots]'")
    assert tables.scripts == []
    assert any("script-src 'none';" in (about.get("content") or "") for _, about in tables.elements)
    assert 'class="plot"' not in tables.text
    drawn = {name.removeprefix("plot-") for _, about in page.elements
             if (name := about.get("id") or "").startswith("plot-")}  # fmt: skip
    folded = [about for tag, about in page.elements if tag == "details"]
    opened = [about for tag, about in tables.elements if tag == "details" and "open" in about]
    assert len(drawn) <= len(opened) <= len(folded)
    assert set(page.prose.split()) <= set(tables.prose.split())


def test_false_accepts_stand_beside_what_is_found_at_every_stage(page):
    assert "false rejects at 5 % false accepts" in page.prose
    for shown in ("83.0 % / 5.0 %", "92.0 % / 4.7 %", "accuracy among target words",
                  "accuracy with non-words counted"):  # fmt: skip
        assert shown in page.prose, shown


def test_what_became_worse_stands_before_the_promise_and_the_figures(example, tmp_path, page):
    assert "made it worse" not in page.prose
    good = example.summary()
    bad = example.changed_sections(good, example.errors(federated=0.5))
    run = example.write(tmp_path / "b", found_summary=bad)
    prose = Page(write_report(run).read_text()).prose
    assert prose.index("Training together made it worse") < prose.index("What is promised")


def test_a_section_that_nobody_foresaw_is_shown(example, tmp_path):
    segment = Segment(name="instrument", value="flute")
    tones = Section(
        key="tones",
        title="Tones told apart",
        on="of two",
        says="A tone counts where both are named.",
        metrics=(
            Metric(name="tones told apart", value=0.4375, model="base", headline=True, phones=3),
            Metric(name="pitch error", value=1.625, unit="number", variant="by ear"),
            *(
                Metric(name="tones told apart", value=value, model=model, segment=segment,
                       headline=True, phones=2)
                for model, value in (("base", 0.25), ("personalized", 0.8125))
            ),
        ),
        charts=(
            Chart(
                name="Pitch over loudness",
                says="Louder is easier.",
                x=Axis(name="loudness", unit="number"),
                y=Axis(name="pitch", unit="number"),
                curves=(Curve(name="flute", x=(1.0, 2.0), y=(0.5, 0.125)),),
            ),
        ),
        matrices=(
            Matrix(name="High and low", says="", labels=("high", "low"), counts=((3, 1), (0, 4))),
        ),
        texts=(
            Texts(
                name="Played", header=("score", "heard"), rows=(("do re", "do mi"), ("so", ""))
            ),
        ),
    )  # fmt: skip
    run = example.write(
        tmp_path / "run", found_summary=example.changed_sections(example.summary(), tones)
    )
    page = Page(write_report(run).read_text())
    for shown in (
        "tones told apart (of two): base 43.8 %", "A tone counts where both are named",
        "pitch error", "by ear", "1.625", "Pitch over loudness", "Louder is easier", "0.125",
        "High and low",
        "Played", "do mi", "so (nothing)", "Tones told apart, by instrument", "flute", "81.2 %",
    ):  # fmt: skip
        assert shown in page.prose, shown
    keys = {figure["key"] for figure in page.figures}
    assert "tones-0" in keys
    assert lines(page, "tones-0") == [([1.0, 2.0], [0.5, 0.125])]


def lines(page, key):
    """Positions and values of the lines of a figure."""
    (figure,) = [figure for figure in page.figures if figure["key"] == key]
    return [(trace["x"], trace["y"]) for trace in figure["traces"]]


def test_run_without_summary_still_reads(example, tmp_path):
    run = without_summary(example.write(tmp_path / "run", found_rows=example.rows()[:9]))
    page = Page(write_report(run).read_text())
    assert "A partial run." in page.prose
    assert "its 9 recorded rounds" in page.prose
    assert "ε = 0.45" in page.prose
    assert {"accuracy", "loss"} <= {figure["key"] for figure in page.figures}


def test_run_stopped_by_its_budget_says_so(example, tmp_path):
    partial = example.summary(
        status="partial", stopped="budget reached before round 31", rounds=30, sections=(),
        export=None, seconds={},
    )  # fmt: skip
    page = Page(write_report(example.write(tmp_path / "run", found_summary=partial)).read_text())
    assert "after 30 of 40 rounds: budget reached before round 31" in page.prose
    assert "What it brought" not in page.prose


@pytest.mark.parametrize("count", [0, 1])
def test_run_with_hardly_any_round_still_reads(example, tmp_path, count):
    summary = example.summary(status="partial", rounds=count, sections=())
    run = example.write(tmp_path / "run", found_rows=example.rows()[:count], found_summary=summary)
    assert "A partial run." in Page(write_report(run).read_text()).prose


def test_torn_line_is_said(example, tmp_path):
    run = example.write(tmp_path / "run")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"round": 41')
    assert (
        "The last line of metrics.jsonl was cut short" in Page(write_report(run).read_text()).prose
    )


def test_same_run_gives_the_same_page(example, tmp_path):
    pages = [write_report(example.write(tmp_path / n / "run")).read_bytes() for n in ("a", "b")]
    assert pages[0] == pages[1]


def test_summary_without_optional_parts_still_reads(example, tmp_path):
    bare = example.summary(
        export=ExportedFile(
            file="m", size_bytes=1, parity_max_abs=0, parity_limit=1e-4, argmax_agreement=1,
            inputs=1, speech_inputs=1,
        ),
        seconds={}, cpu_seconds={}, epsilon_budget=None, adapter_rounds=None, shots=None,
        parameters=None,
    )  # fmt: skip
    accuracy = bare.section("accuracy")
    whole = dataclasses.replace(accuracy, metrics=accuracy.whole, charts=())
    bare = bare.model_copy(update={"sections": (whole,)})
    assert (
        "What it brought"
        in Page(write_report(example.write(tmp_path / "run", found_summary=bare)).read_text()).prose
    )


@pytest.mark.slow
def test_a_run_on_a_time_axis_shows_what_it_takes_of_a_phone_and_how_long(
    example, tmp_path, unpriced
):
    row = example.rows()[0]
    time = RoundTime(called_h=2.0, called=2991, joined=1177, late=12, phone_s_median=2.09,
                     phone_s_90=2.52, enough_s=902.2, finished_s=920.0)  # fmt: skip
    of_run = RunTime(days=11.0, finish_s=920.0, enough_s=902.2, phone_s=2.1, share_away=0.606,
                     share_late=0.01, over_selection=1.48)  # fmt: skip
    simulator = row.simulation_only.model_copy(update={"time": time})
    rows = [row.model_copy(update={"simulation_only": simulator})]
    run = example.write(
        tmp_path / "run", found_rows=rows, found_summary=example.summary(time=of_run)
    )
    html = write_report(run).read_text().replace("\u00a0", " ")
    for shown in ("Time to finish a round", "Accuracy as days pass", "15 min 20 s a round",
                  "60.6 % were away", "1.48 phones", "8.2 kB", "2,991"):  # fmt: skip
        assert shown in html, shown
    public = write_report(run, publish=True).read_text()
    assert "Time to finish a round" not in public
    assert "2,991" not in public
    assert "Time to finish a round" not in write_report(example.write(tmp_path / "b")).read_text()
