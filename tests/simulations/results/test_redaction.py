"""The published page keeps the promise that it prints."""

import dataclasses
import re

import pytest

from fedspeech.evaluation.metric import Axis, Chart, Curve, Metric, Section
from simulations.report.writing import write_report
from simulations.results.redaction import LEFT_OUT, published
from simulations.results.run_folder import RunFolder, read
from simulations.results.summary import Utility

SECRETS = {
    "cohort": 271_828,
    "reporting": 271_801,
    "signal_to_noise": 0.61803,
    "accumulated_signal_to_noise": 0.41421,
    "share_clipped": 0.69315,
    "true_wraps": 14_142,
    "seconds": 1_618.25,
    "reason": "only 171 came",
    "seed": 602_214,
    "bytes_up": 662_607,  # of masked rounds: they grow with the cohort, and tell its size
    "bytes_down": 137_035,
}


@pytest.fixture
def run(example, tmp_path, unpriced):
    rows = [
        row.model_copy(
            update={
                "seconds": SECRETS["seconds"],
                "reason": SECRETS["reason"],
                "bytes_up": SECRETS["bytes_up"],
                "bytes_down": SECRETS["bytes_down"],
                "server": row.server.model_copy(
                    update={
                        name: SECRETS[name]
                        for name in (
                            "cohort",
                            "reporting",
                            "signal_to_noise",
                            "accumulated_signal_to_noise",
                        )
                    }
                ),
                "simulation_only": row.simulation_only.model_copy(
                    update={name: SECRETS[name] for name in ("share_clipped", "true_wraps")}
                ),
            }
        )
        for row in example.rows()
    ]
    summary = example.summary(
        seed=SECRETS["seed"],
        command=f"fedspeech simulate --seed {SECRETS['seed']}",
        stopped=SECRETS["reason"],
        utility=Utility(
            base=0.72,
            federated=0.31,
            clips=672,
            signal_to_noise=SECRETS["accumulated_signal_to_noise"],
            collapsed=True,
            by_noise=0.4,
        ),
        seconds={"rounds": SECRETS["seconds"]},
        cpu_seconds={"rounds": SECRETS["seconds"]},
    )
    scenario = (
        f'name = "x"\nseed = {SECRETS["seed"]}\n[corpus]\npath = "/home/somebody/voices"\n'
        f"[nested]\nnoise_seed = [\n{SECRETS['seed']},\n]\nq = 0.1\n"
    )
    return example.write(
        tmp_path / "run", found_rows=rows, found_summary=summary, scenario=scenario
    )


def written(results) -> str:
    """Everything that the results say, as text."""
    rows = "\n".join(row.model_dump_json() for row in results.rows)
    return f"{rows}\n{results.summary.model_dump_json()}\n{results.scenario}"


def test_operators_part_is_gone_from_the_data(run):
    everything = read(run)
    shown = written(published(everything))
    for name, secret in SECRETS.items():
        assert str(secret) in written(everything), name
        assert str(secret) not in shown, name
    assert "/home/somebody" not in shown


def test_operators_part_is_gone_from_the_page(run):
    page = write_report(run, publish=True).read_text()
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    for name, secret in SECRETS.items():
        assert str(secret) not in text, name
        assert not isinstance(secret, int) or f"{secret:,}" not in text, name
    assert "/home/somebody" not in text
    for withheld in ("For the operator only", "Seconds by stage", "Each phone before and after"):
        assert withheld not in text
    for said in LEFT_OUT:
        assert said in text


def test_operators_page_has_it_all_and_calls_it_his(run):
    page = write_report(run).read_text()
    assert "For the operator only" in page
    assert f"{SECRETS['cohort']:,}" in page
    assert "What this report leaves out" not in page


def test_two_pages_do_not_overwrite_each_other(run):
    assert write_report(run) != write_report(run, publish=True)


def test_what_may_be_published_stays(run, example):
    shown, everything = published(read(run)), read(run)
    for section in everything.summary.sections:
        assert shown.summary.section(section.key).metrics == section.metrics
        assert shown.summary.section(section.key).matrices == section.matrices
    assert shown.summary.account() == everything.summary.account()
    assert [row.server.validation_accuracy for row in shown.rows] == [
        row.server.validation_accuracy for row in everything.rows
    ]
    assert shown.settings() == {"name": "x", "corpus.path": "(a local path)", "nested.q": 0.1}


def test_what_only_the_server_sees_and_what_is_of_single_phones_goes_whatever_it_is_called(example):
    invented = Section(
        key="tones",
        title="Tones told apart",
        metrics=(
            Metric(name="tones told apart", value=0.625, model="base"),
            Metric(name="tones per message", value=0.141421, visibility="server"),
        ),
        charts=(
            Chart(
                name="Tones of each phone",
                says="",
                x=Axis(name="phone", unit="number"),
                y=Axis(name="tones"),
                curves=(Curve(name="base", x=(1.0, 2.0), y=(0.173205, 0.5)),),
                single_phones=True,
            ),
        ),
    )
    (kept,) = [invented.publishable()]
    assert [metric.name for metric in kept.metrics] == ["tones told apart"]
    assert kept.charts == ()
    assert dataclasses.replace(invented, metrics=invented.metrics[1:]).publishable() is None


def test_no_price_is_shown_round_by_round(run):
    shown = published(read(run))
    assert {row.guarantee.rounds for row in shown.rows} == {read(run).summary.guarantee.rounds}
    assert "by the end of each round" not in write_report(run, publish=True).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("publish", [True, False])
def test_figures_of_people_who_were_judged_are_named_as_uncovered_where_they_stand(run, publish):
    page = " ".join(write_report(run, publish).read_text().split())
    assert page.count("no epsilon covers them") >= 4, "headline, groups, phones, errors"
    synthetic = RunFolder(run)
    synthetic.write_scenario('name = "x"\n[corpus]\nkind = "embedded"\n')
    assert "no epsilon covers them" not in write_report(run, publish).read_text()


def test_run_without_summary_can_be_published(run):
    partial = dataclasses.replace(read(run), summary=None)
    assert published(partial).summary is None
