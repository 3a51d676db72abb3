"""What a run behind Flower's engines tells whoever waits for it."""

from simulations.engines import flower
from simulations.engines.flower import SuperLink


class Played(SuperLink):
    """A SuperLink of which nothing is started: what it says of the run is given."""

    def __init__(self, folder, steps):
        self.app, self._federation, self._steps = folder, "", iter(steps)

    def flwr(self, *arguments):
        if arguments[0] == "run":
            return {"run-id": "1"}
        return {"runs": [{"status": next(self._steps)()}]}


def test_a_run_that_waits_says_for_whom_and_not_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(flower, "ASK_EVERY_S", 0.0)
    waiting, told = tmp_path / "waiting.txt", []
    waiting.write_text("round 1: left by a run that was killed")

    def waits(words):
        return lambda: waiting.write_text(words) and "running"

    def answers():
        waiting.unlink()
        return "finished:completed"

    steps = [waits("for node 3, 60 s"), waits("for node 3, 60 s"), waits("for 3, 120 s"), answers]
    link = Played(tmp_path, steps)
    link.run(tmp_path / "job.json", lambda *_: None, told.append, resume="", known=0)
    assert told == ["for node 3, 60 s", "for 3, 120 s"]
