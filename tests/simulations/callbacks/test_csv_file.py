"""The file of figures, whole and after a kill."""

import csv

from simulations.callbacks.callback import Figure, RunEnd, RunInfo
from simulations.callbacks.csv_file import CsvLogger


def info(folder, known=0):
    return RunInfo(
        name="tiny", folder=folder, key="k", rounds=4, known=known, settings={}, released=False
    )


def lines(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_line_per_figure_is_on_disk_when_the_round_is_over(tmp_path):
    logger = CsvLogger()
    logger.on_start(info(tmp_path))
    logger.on_round(1, [Figure("validation_loss", 0.1, "public"), Figure("cohort", 3.0, "server")])
    assert lines(tmp_path / "figures.csv") == [
        ["round", "stage", "figure", "value"],
        ["1", "rounds", "public/validation_loss", "0.1"],
        ["1", "rounds", "server/cohort", "3.0"],
    ]
    logger.on_stage("personalize", [Figure("accuracy", 0.5, "simulation_only")])
    logger.on_end(RunEnd(status="complete", stopped="", figures=[]))
    assert lines(tmp_path / "figures.csv")[-1][:3] == ["1", "personalize", "simulation/accuracy"]


def test_rounds_that_come_again_after_a_kill_stand_there_once(tmp_path):
    logger = CsvLogger()
    logger.on_start(info(tmp_path))
    for number in (1, 2, 3):
        logger.on_round(number, [Figure("x", float(number), "public")])
    with (tmp_path / "figures.csv").open("a") as file:
        file.write("4,rounds,public/x")  # torn
    again = CsvLogger()
    again.on_start(info(tmp_path, known=2))
    again.on_round(3, [Figure("x", 3.5, "public")])
    values = [(row[0], row[3]) for row in lines(tmp_path / "figures.csv")[1:]]
    assert values == [("1", "1.0"), ("2", "2.0"), ("3", "3.5")]


def test_a_name_of_its_own_is_taken(tmp_path):
    logger = CsvLogger(tmp_path / "a" / "b.csv")
    logger.on_start(info(tmp_path))
    assert lines(tmp_path / "a" / "b.csv") == [["round", "stage", "figure", "value"]]
