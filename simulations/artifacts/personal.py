"""A run's adapter adapted to people: to its held-out phones, or to speakers who come later."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.errors import CorpusError
from simulations.artifacts.loaded_run import FinishedRun, trained_model
from simulations.console import Console, Printed, table
from simulations.evaluation.evaluator import Evaluator
from simulations.progress import RunProgress
from simulations.scenario.stages import require_stage
from simulations.setup.definition import Experiment
from simulations.setup.embedding import Embedder, anonymizer_of, cache_folder
from simulations.setup.experiment import BuiltExperiment, build_experiment, held_out_phones


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonalPhone:
    """One phone before and after it adapted; nothing of it leaves the phone.

    Attributes:
      phone: its pseudonym, or the speaker of the recordings.
      judged: examples that judge, none of which it adapted on.
      before: accuracy of the run's adapter on them, 0 to 1.
      after: accuracy of the phone's own adapter.
      parameters: the phone's own adapter, by name of the tensor.
    """

    phone: str
    judged: int
    before: float
    after: float
    parameters: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Personalization(Printed):
    """Phones that adapted.

    Attributes:
      shots: own examples of each, per target word where words are spotted.
      phones: in order.
      left_out: speakers with too few examples to adapt on and be judged by.
    """

    shots: int
    phones: tuple[PersonalPhone, ...]
    left_out: tuple[str, ...] = ()

    @property
    def before(self) -> float:
        """Mean accuracy over phones before."""
        return float(np.mean([phone.before for phone in self.phones]))

    @property
    def after(self) -> float:
        """Mean accuracy over phones after."""
        return float(np.mean([phone.after for phone in self.phones]))

    def __repr__(self) -> str:
        """How many phones, and what came of it."""
        return (
            f"Personalization({len(self.phones)} phones, {self.shots} shots, "
            f"accuracy {self.before:.3f} to {self.after:.3f})"
        )

    def print(self, console: Console) -> None:
        """Prints a line for each phone, and the mean."""
        rows = [
            (one.phone, str(one.judged), f"{one.before:.1%}", f"{one.after:.1%}")
            for one in self.phones
        ]
        header = ("phone", "judged by", "before", f"after, {self.shots} own examples")
        console.print(table(header, rows, right=header[1:]))
        worse = sum(one.after < one.before for one in self.phones)
        console.print(
            f"mean {self.before:.1%} before, {self.after:.1%} after; {worse} of "
            f"{len(self.phones)} phones answer fewer examples correctly"
        )
        if self.left_out:
            console.print(f"too few examples: {', '.join(self.left_out)}")


def personalize_run(
    run: Path,
    corpus: Corpus | None,
    *,
    shots: int | None,
    experiment: Experiment | None,
    workers: int,
    cache: Path | None,
    progress: RunProgress,
) -> Personalization:
    """Adapts the run's adapter to its held-out phones, or to every speaker of a corpus.

    Raises:
      CorpusError: if a recording is one that the run's phones trained on, or nobody has enough.
      FedspeechError: if the folder lacks a part.
      ScenarioError: if the product is at a stage without personalization.
    """
    finished = FinishedRun.open(run, experiment=experiment)
    require_stage(finished.scenario.name, finished.scenario.stage, "personalize")
    settings = finished.scenario.personalization
    count = shots or settings.headline_shots
    own = settings.model_copy(update={"shots": (count,), "headline_shots": count})
    scenario = finished.scenario.model_copy(update={"personalization": own})
    with progress, progress.stage("personalize"):
        built = build_experiment(
            finished.experiment or finished.scenario, cache=cache_folder(cache),
            simulation_only=None, workers=workers, progress=progress.advance,
        )  # fmt: skip
        left_out: tuple[str, ...] = ()
        if corpus is not None:
            built, left_out = _with_phones(built, corpus, scenario.seed, count)
        embed = Embedder(built.base, built.adapter, cache_folder(cache), workers, progress.advance,
                         anonymizer_of(scenario))  # fmt: skip
        built = dataclasses.replace(
            built, held_out=held_out_phones(scenario, built.speakers, embed)
        )
        evaluator, trained = Evaluator(built, scenario), trained_model(finished.folder, built.base)
        shipped = trained.adapter.spec.flatten(trained.parameters)
        adapted = evaluator.own_adapters(shipped, count)
    phones = tuple(
        PersonalPhone(
            phone=held_out.phone.phone_id,
            judged=len(held_out.judged),
            before=evaluator.accuracy(shipped, held_out),
            after=evaluator.accuracy(vector, held_out),
            parameters=trained.adapter.spec.unflatten(vector),
        )
        for vector, held_out in zip(adapted, built.held_out, strict=True)
    )
    return Personalization(count, phones, left_out)


def _with_phones(
    built: BuiltExperiment, corpus: Corpus, seed: int, count: int
) -> tuple[BuiltExperiment, tuple[str, ...]]:
    """The experiment with every speaker of a corpus as a held-out phone, and who has too little."""
    speakers, task = built.speakers, built.task
    trained = {
        speakers.corpus.fingerprint(clip) for clip in utterances_of(speakers.partition.federated)
    }
    clips: dict[str, list[Utterance]] = {}
    for clip in corpus.utterances:
        # By what is in the sound: a folder may hold a phone's clip under another name.
        if corpus.fingerprint(clip) in trained:
            raise CorpusError(
                f"{corpus.name} holds a recording that a phone of the run trained on: what it "
                "shows is memory. Personalize for people who did not train"
            )
        clips.setdefault(clip.speaker_id, []).append(clip)
    phones, left_out = [], []
    for name, said in sorted(clips.items()):
        segments = corpus.speakers[name].segments if name in corpus.speakers else {}
        phone = Phone(name, name, dict(segments), tuple(said))
        try:
            split = task.split(phone, count, seed=seed, reserve=count)
        except ValueError:
            left_out.append(name)
            continue
        if split.own and split.judged:
            phones.append(phone)
        else:
            left_out.append(name)
    if not phones:
        raise CorpusError(
            f"nobody in {corpus.name} has {count} examples of a target word and one more to be "
            "judged by; record more, or take fewer `shots`"
        )
    partition = dataclasses.replace(speakers.partition, held_out=tuple(phones))
    changed = dataclasses.replace(speakers, corpus=corpus, partition=partition)
    return dataclasses.replace(built, speakers=changed), tuple(left_out)
