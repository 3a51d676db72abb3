"""What loggers of a real run are told."""

import csv

import pytest
from tiny_experiment import cache, tiny_scenario

from simulations.callbacks.callback import Callback
from simulations.results.run_folder import read
from simulations.run.runner import simulate


class Recording(Callback):
    """Keeps figures and order of events."""

    def __init__(self):
        self.events, self.figures, self.info = [], [], None

    def on_start(self, run):
        self.events.append("start")
        self.info = run

    def on_round(self, round_number, figures):
        self.events.append(round_number)
        self.figures += figures

    def on_stage(self, stage, figures):
        self.events.append(stage)
        self.figures += figures
        raise OSError("the tracker is full")

    def on_end(self, end):
        self.events.append("end")


class Last(Recording):
    """Hears of the end, after another has failed."""

    def on_stage(self, stage, figures):
        self.events.append(stage)
        self.figures += figures


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "files"), [("seeded", "false"), ("os", "true")])
def test_a_run_is_told_by_who_may_see_it_and_no_logger_stops_it(tmp_path, noise, files):
    failing, last = Recording(), Last()
    run = simulate(
        tiny_scenario("callbacks.csv=true", f"noise_entropy={noise}", f"export.at_end={files}"),
        out=tmp_path / "run", workers=1, cache=cache(), callbacks=[failing, last],
    )  # fmt: skip
    results = read(run)
    assert results.summary.status == "complete"
    assert failing.events == ["start", 1, 2, "personalize"]
    assert last.events == ["start", 1, 2, "personalize", *["export"] * (files == "true"), "end"]
    prefixes = {figure.tag.partition("/")[0] for figure in last.figures}
    assert prefixes == ({"public"} if noise == "os" else {"public", "server", "simulation"})
    assert ("seed" in last.info.settings) == (noise == "seeded")
    with (run / "figures.csv").open(newline="") as file:
        rows = {(row["round"], row["figure"]): row["value"] for row in csv.DictReader(file)}
    for row in results.rows:
        logged = rows[str(row.round), "public/validation_accuracy"]
        assert float(logged) == row.server.validation_accuracy
