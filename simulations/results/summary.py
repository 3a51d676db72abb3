"""summary.json: what came of a run.

Figures of the model stand in `sections`, each saying what it is and who could see it
(`fedspeech.evaluation.metric`); for the other fields `VISIBILITY` says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from fedspeech.evaluation.metric import ACCURACY, MODELS, Section, Visibility
from simulations.results.account import Account, StoredExamples
from simulations.results.exported import ExportedFile, FamilyFile, Listening
from simulations.results.record import Count, Positive, Record, Share


class Utility(Record):
    """What the server may know of its own success; the operator's own, since noise is beside it.

    Attributes:
      base: accuracy on public validation speakers before the first round.
      federated: after the last completed one.
      clips: judged each time.
      signal_to_noise: of the sum of all decoded means; None without noise.
      by_noise: median accuracy of models that noise of this size alone makes of the base; None
        where the model is not worse than its base.
      collapsed: worse than its base by more than three standard errors, at least half of which
        noise alone costs in nearly every draw (`fedspeech.evaluation.collapse`).
    """

    base: Share
    federated: Share
    clips: Count
    signal_to_noise: Positive | None
    collapsed: bool
    by_noise: Share | None = None


class PhonesAtHour(Record):
    """How many phones of a population could be asked at an hour, whether a round was called or not.

    Attributes:
      hour: from the midnight before the first round.
      eligible: phones that the policy lets work, on average over the days that they might have.
      consented: phones whose user's consent is in force.
      both: phones of which both hold, on average.
    """

    hour: Positive
    eligible: Positive
    consented: Count
    both: Positive


class RunTime(Record):
    """A run in virtual time, over its rounds.

    Attributes:
      days: from the first call to the end of the last round.
      finish_s: median seconds from call to end of a round.
      enough_s: median seconds from call until the minimum of reporting phones was reached; None:
        never.
      phone_s: median over rounds of the median phone's seconds; None if nobody joined.
      share_away: of the phones whose coin said yes.
      share_late: of those who joined.
      over_selection: mean number of phones that joined over the minimum of reporting phones; 1 is
        none to spare.
      converged_days: from the first call until held-out phones had gained nine tenths of what they
        gain in the best round; None: they gain nothing.
      bytes_in_all: sent and received by all phones that joined, over all rounds.
      hours: of the first week, or of the run where it is shorter.
    """

    days: Positive
    finish_s: Positive
    enough_s: Positive | None = None
    phone_s: Positive | None = None
    share_away: Share
    share_late: Share
    over_selection: Positive
    converged_days: Positive | None = None
    bytes_in_all: Count = 0
    hours: tuple[PhonesAtHour, ...] = ()


VISIBILITY: Mapping[str, Visibility] = {
    "guarantee": "public",
    "unit_note": "public",
    "examples_hidden": "public",
    "bytes_up": "public",
    "bytes_down": "public",
    "bytes_once": "public",
    "export": "public",
    "start": "public",
    "utility": "server",
    "adapter_rounds": "server",
    "rounds": "server",
    "recordings_sha256": "simulation_only",
    "time": "simulation_only",
    "seconds": "simulation_only",
    "export_family": "simulation_only",
    "listening": "simulation_only",
}


class Summary(Account):
    """summary.json: what came of the run. What a partial run did not reach is None or empty.

    Attributes:
      schema_version: of this file.
      scenario: name of the scenario.
      corpus: name of the corpus.
      seed: of the run; None only where it is withheld.
      command: what was typed, without machine paths.
      status: "complete" or "partial"; a complete one has the accuracy of all four models.
      stopped: why it stopped early ("interrupted", "budget reached before round 31"), else None.
      rounds: completed rounds.
      rounds_planned: rounds asked for; 0: the product's stage has none.
      phones: population: every phone that may be asked.
      voices: distinct voices from which the phones were drawn; None: each has a voice of its own.
      unit_note: what a privacy unit that is no user covers; empty for users.
      participation: probability q of a phone's presence in a round.
      start: the stage whose adapter phones personalize from and that is exported.
      start_chosen_by: how it was chosen.
      adapter_rounds: completed rounds behind that adapter; 0 for the base's own.
      adapter: its kind: "head", "affine" or "bottleneck".
      parameters: number of trained parameters.
      shots: own examples of a phone, per target word where words are spotted, behind the
        personalized model.
      segments_withheld: segment to phones left out because even merged they were too few.
      minimum_segment_phones: under which a cell was merged.
      sections: figures of the model, as the evaluation of its task names them.
      utility: what the server may know of its own success; None if there was no round or nobody to
        validate on.
      bytes_up: per phone and round.
      bytes_down: per phone and round.
      bytes_once: the base, sent once to a phone.
      recordings_sha256: of who says what in the run, recordings included; by it they are known
        again.
      time: in virtual time; None without a time axis.
      seconds: stage to wall seconds.
      cpu_seconds: stage to CPU seconds.
      examples_hidden: what one example of a phone is promised, apart from `guarantee` and added to
        none of its figures; None where training promises it nothing.
      export: the exported float file; None if none was made.
      export_family: every exported file, the float one included.
      listening: rates of errors of the streaming file; None if none was made.
      export_refused: why there is none, if it was refused.
      export_skipped: why no file was made, if exporting was not tried: an extra is not installed,
        or the scenario asks for no files.
      visibility: field to who could see it, always `VISIBILITY`.
    """

    schema_version: Literal[3] = 3
    scenario: str
    corpus: str
    seed: int | None
    command: str = ""
    status: Literal["complete", "partial"]
    stopped: str | None = None
    rounds: Count
    rounds_planned: Count
    phones: Count
    voices: Count | None = None
    unit_note: str = ""
    participation: Share | None = None
    start: Literal["base", "federated"] = "federated"
    start_chosen_by: Literal["public validation speakers", "nobody: it is the last one"] = (
        "nobody: it is the last one"
    )
    adapter_rounds: Count | None = None
    adapter: str = ""
    parameters: Count | None = None
    shots: Count | None = None
    segments_withheld: dict[str, Count] = Field(default_factory=dict)
    minimum_segment_phones: Count | None = None
    sections: tuple[Section, ...] = ()
    utility: Utility | None = None
    bytes_up: Count = 0
    bytes_down: Count = 0
    bytes_once: Count = 0
    recordings_sha256: str = ""
    time: RunTime | None = None
    seconds: dict[str, Positive] = Field(default_factory=dict)
    cpu_seconds: dict[str, Positive] = Field(default_factory=dict)
    examples_hidden: StoredExamples | None = None
    export: ExportedFile | None = None
    export_family: tuple[FamilyFile, ...] = ()
    listening: Listening | None = None
    export_refused: str | None = None
    export_skipped: str | None = None
    visibility: dict[str, Visibility] = Field(default_factory=lambda: dict(VISIBILITY))

    def section(self, key: str) -> Section:
        """The section of a key; an empty one where there is none."""
        found = (section for section in self.sections if section.key == key)
        return next(found, Section(key=key, title=""))

    @model_validator(mode="after")
    def _complete_means_complete(self) -> Self:
        found = set(self.section(ACCURACY).by_model())
        # Where no round is planned, the stage of the product says which models there are.
        enough = found == set(MODELS) if self.rounds_planned else "base" in found
        if self.status == "complete" and not enough:
            raise ValueError(
                "a complete summary needs accuracy of base, federated, personalized and control"
            )
        return self
