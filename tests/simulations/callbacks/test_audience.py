"""Who is told what: private figures reach no logger of a released run, and no logger ends a run."""

import dataclasses
import math

import pytest

from fedspeech.evaluation.metric import Metric, Section
from simulations.callbacks.audience import Audience
from simulations.callbacks.callback import Callback, Figure, RunInfo
from simulations.callbacks.csv_file import CsvLogger
from simulations.callbacks.figures import of_round, of_sections, of_summary

PLANTED = 0.123456789  # of single phones, or the server's own; it stands nowhere else


class Recording(Callback):
    """Keeps whatever it is told, in order."""

    def __init__(self):
        self.told = []

    def on_start(self, run):
        self.told.append(("start", run))

    def on_round(self, round_number, figures):
        self.told.append((round_number, figures))

    def on_stage(self, stage, figures):
        self.told.append((stage, figures))

    def on_end(self, end):
        self.told.append(("end", end))


def info(folder, *, released, known=0):
    return RunInfo(
        name="tiny", folder=folder, key="k", rounds=3, known=known,
        settings={"privacy.rounds": 3}, released=released,
    )  # fmt: skip


@pytest.fixture
def rows(example):
    """Three rounds, of which the second was abandoned, with a private figure in every place."""
    first, _, third = example.rows()[:3]
    planted = {
        "server": first.server.model_copy(update={"signal_to_noise": PLANTED}),
        "simulation_only": first.simulation_only.model_copy(update={"share_clipped": PLANTED}),
        "seconds": PLANTED,
    }
    nothing = {"status": "abandoned", "reason": "too few", "round": 2, "seconds": PLANTED}
    return [
        first.model_copy(update=planted),
        next(row for row in example.rows() if row.status == "abandoned").model_copy(update=nothing),
        third.model_copy(update=planted),
    ]


@pytest.fixture
def summary(example):
    metrics = (
        Metric(name="words", value=PLANTED, model="federated"),
        Metric(name="loss", value=0.5, model="federated", visibility="public"),
        Metric(name="operator's", value=PLANTED, visibility="server"),
    )
    section = Section(key="planted", title="Planted", metrics=metrics)
    found = example.summary(stopped="only 171 came", seconds={"rounds": PLANTED})
    return found.model_copy(update={"sections": (*found.sections, section)})


def with_epsilon(summary, epsilon):
    return dataclasses.replace(summary.guarantee, epsilon_release=epsilon)


def whole_run(folder, callbacks, rows, summary, *, released):
    """Tells a run as the runner does; returns what was said."""
    said = []
    audience = Audience(callbacks, said.append, info(folder, released=released))
    audience.start()
    for one in rows:
        audience.round(one)
    audience.stage("personalize", of_sections(summary))
    audience.end(summary, with_epsilon(summary, 2.0), rows)
    return said


def everything(recording):
    """All figures that a recording was told, as tags and values."""
    found = []
    for _, what in recording.told:
        figures = getattr(what, "figures", what)
        if not isinstance(figures, RunInfo):
            found += [(figure.tag, figure.value) for figure in figures]
    return found


def test_a_released_run_shows_no_private_figure_to_anybody(tmp_path, rows, summary):
    recording = Recording()
    whole_run(tmp_path, [recording, CsvLogger()], rows, summary, released=True)
    told = everything(recording)
    assert {tag.partition("/")[0] for tag, _ in told} == {"public"}
    assert PLANTED not in [value for _, value in told]
    written = (tmp_path / "figures.csv").read_text()
    assert repr(PLANTED) not in written
    assert "server/" not in written
    assert "simulation/" not in written
    assert "public/validation_accuracy" in written
    (_, end), *_ = [event for event in recording.told if event[0] == "end"]
    assert end.stopped == "", "why a run stopped is the operator's own"
    spent = dict(told)["public/epsilon_release"]
    assert spent == 2.0, "every round that was begun, as a published report prices it"


def test_the_planted_figure_would_have_been_seen(tmp_path, rows, summary):
    """Or the test above would prove nothing."""
    recording = Recording()
    whole_run(tmp_path, [recording, CsvLogger()], rows, summary, released=False)
    planted = {tag for tag, value in everything(recording) if value == PLANTED}
    assert {"server/signal_to_noise", "simulation/share_clipped"} <= planted
    assert {"server/planted/operator's", "simulation/seconds/rounds"} <= planted
    assert "simulation/planted/words/federated" in planted
    assert repr(PLANTED) in (tmp_path / "figures.csv").read_text()


def test_a_released_run_is_told_at_its_end_of_its_models_alone(tmp_path, rows, summary):
    """A logger writes down the hour at which it is told."""
    recording = Recording()
    audience = Audience([recording], print, info(tmp_path, released=True))
    audience.start()
    for row in rows:
        audience.round(row)
    audience.stage("personalize", ())
    assert recording.told == []
    audience.end(summary, with_epsilon(summary, 2.0), rows)
    assert [event for event, _ in recording.told] == ["start", 1, 3, "personalize", "end"]


def test_a_simulation_is_told_as_it_goes(tmp_path, rows, summary):
    recording = Recording()
    whole_run(tmp_path, [recording], rows, summary, released=False)
    assert [event for event, _ in recording.told] == ["start", 1, 2, 3, "personalize", "end"]


class Breaking(Recording):
    """A logger whose server goes away in the second round."""

    def on_round(self, round_number, figures):
        super().on_round(round_number, figures)
        if round_number == 2:
            raise ConnectionError("no route to host")


def test_a_logger_that_fails_is_said_once_and_told_nothing_more(tmp_path, rows, summary):
    broken, other = Breaking(), Recording()
    said = whole_run(tmp_path, [broken, other], rows, summary, released=False)
    assert len(said) == 1
    assert "Breaking failed and is told nothing more of this run (ConnectionError" in said[0]
    assert [event for event, _ in broken.told] == ["start", 1, 2]
    assert [event for event, _ in other.told][-1] == "end", "the others go on"


def test_nobody_is_told_of_the_end_of_what_never_began(tmp_path, rows, summary):
    recording = Recording()
    Audience([recording], print, info(tmp_path, released=False)).end(
        summary, with_epsilon(summary, 2.0), rows
    )
    assert recording.told == []


class Interrupted(Callback):
    """The user's Ctrl-C while a logger is told."""

    def on_round(self, round_number, figures):
        raise KeyboardInterrupt


def test_an_interruption_is_no_failure_of_a_logger(tmp_path, rows):
    audience = Audience([Interrupted()], print, info(tmp_path, released=False))
    with pytest.raises(KeyboardInterrupt):
        audience.round(rows[0])


def test_every_figure_of_a_row_says_who_could_see_it(rows):
    tags = {figure.tag for figure in of_round(rows[0])}
    assert {
        "public/validation_accuracy", "public/validation_loss", "public/clip_norm",
        "server/cohort", "server/reporting", "server/seconds", "server/epsilon_release",
        "simulation/held_out_accuracy", "simulation/share_clipped",
    } <= tags  # fmt: skip


def test_an_infinite_epsilon_is_no_figure(summary):
    infinite = summary.model_copy(update={"guarantee": with_epsilon(summary, math.inf)})
    assert "epsilon_release" not in {figure.name for figure in of_summary(infinite)}
    assert "epsilon_release" in {figure.name for figure in of_summary(summary)}


def test_a_figure_is_named_by_who_could_see_it():
    assert Figure("a", 1.0, "simulation_only").tag == "simulation/a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Figure("a", 1.0, "public").value = 2.0
