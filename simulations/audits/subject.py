"""What is attacked: an experiment with the truth in it, and what attackers know of it.

Each phone keeps half of its clips out of its training, dealt word by word: other utterances of the
same speaker and the same words, by which an attacker may have enrolled them. (Of other words they
would tell words and not voices: measured, a single update was then linked to nobody.) Synthetic
speakers speak twice as much for it. Half of the population may be attacked; each of these is absent
by a fair coin, so that an attack on membership has somebody to tell from whom. An absent phone
joins and contributes nothing but its noise. Public speakers, by whom attackers learn, are none of
the phones.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import Auxiliary, Knowledge, KnownSpeaker
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from simulations.audits.playing import Played, play
from simulations.scenario.corpora import EmbeddedCorpus
from simulations.scenario.schema import Scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import Embedder
from simulations.setup.experiment import BuiltExperiment

MOST_ATTACKED = 128
MOST_PUBLIC = 120  # speakers that are made for attackers, where speakers can be made
CLIPS_ASKED = 48  # phones of whose clips an attack is asked which it heard
_SPOKEN = (
    "utterances_per_phone", "unknown_per_phone", "silence_per_phone", "sentences_per_phone",
)  # fmt: skip
_OTHER_VOICES = 7919  # added to the seed of those speakers


def without_noise(plan: PrivacyPlan) -> PrivacyPlan:
    """The same rounds and the same clip without noise: what the plan would show without DP."""
    return dataclasses.replace(
        plan, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf,
        secure_aggregation="ideal", adaptive_clipping=None, factorization=None,
    )  # fmt: skip


def with_sums(plan: PrivacyPlan) -> PrivacyPlan:
    """The same plan with ideal sums, whose integers are those of masked ones."""
    return dataclasses.replace(plan, secure_aggregation="ideal")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """An experiment that is attacked. Printing it shows sizes only.

    Attributes:
      built: the experiment.
      arrays: what phones train on.
      kept_out: clips of each phone that it does not train on.
      traits: of each phone, by name.
      candidates: phones that may be attacked, sorted, shape (c,).
      absent: those of them that contribute nothing.
      public: speakers by whom attackers learn.
      personalization: how a phone adapts the last release for itself.
    """

    built: BuiltExperiment
    arrays: PopulationArrays
    kept_out: tuple[LocalDataset, ...]
    traits: tuple[Mapping[str, str], ...]
    candidates: NDArray[np.int64]
    absent: frozenset[int]
    public: tuple[KnownSpeaker, ...]
    personalization: LocalTraining

    def __repr__(self) -> str:
        """Shows sizes."""
        return (
            f"Subject(phones={len(self.kept_out)}, candidates={len(self.candidates)}, "
            f"absent={len(self.absent)}, public={len(self.public)})"
        )

    @property
    def job(self) -> Job:
        """The job of the experiment."""
        return self.built.job

    def query_of(self, observer: Observer) -> AdapterTraining:
        """How what an observer sees was trained: in a round, or by a phone for itself."""
        query = AdapterTraining.of(self.job.query).on(self.arrays)
        if observer != "recipient":
            return query
        return dataclasses.replace(query, training=self.personalization)

    def job_of(self, plan: PrivacyPlan, seed: int = 0) -> Job:
        """The job under another plan.

        Coins and noise keys of one seed are the same in all plans, so that they differ in their
        settings and not in their luck; nothing of it is released.
        """
        return dataclasses.replace(
            self.job, plan=plan, noise_entropy="seeded", repeats=f"audit {seed}", identities="",
            simulation_only="",
        )  # fmt: skip

    def member_of(self, played: Played) -> int | None:
        """The phone that plays the member of cohorts: who sent most often and is not attacked."""
        attacked = set(self.candidates.tolist())
        return next((int(one) for one in played.busiest if int(one) not in attacked), None)

    def own(self, phone: int) -> LocalDataset:
        """The clips that a phone trains on, without the public ones."""
        start, stop = self.arrays.offsets[phone : phone + 2]
        return LocalDataset(self.arrays.embeddings[start:stop], self.arrays.labels[start:stop])

    @functools.cached_property
    def asked(self) -> tuple[LocalDataset, NDArray[np.int64], NDArray[np.bool_]]:
        """Clips that an attack is asked about: one of either kind of each phone that is there.

        Returns:
          The clips, whose phone each is of, and whether that phone trained on it.
        """
        clips: list[LocalDataset] = []
        phones: list[int] = []
        trained: list[bool] = []
        there = [int(phone) for phone in self.candidates if phone not in self.absent]
        for phone in there[:CLIPS_ASKED]:
            for held, kind in ((self.own(phone), True), (self.kept_out[phone], False)):
                if len(held):
                    clips.append(held.first(1))
                    phones.append(phone)
                    trained.append(kind)
        joined = clips[0]
        for clip in clips[1:]:
            joined = joined.joined(clip)
        return joined, np.array(phones), np.array(trained)

    def knowledge(
        self, auxiliary: Auxiliary, plan: PrivacyPlan, observer: Observer, *, masked: bool
    ) -> Knowledge:
        """What an attacker of this experiment has besides a transcript."""
        query = self.query_of(observer)
        held = {
            "public": (),
            "enrollment": tuple(self.kept_out[phone] for phone in self.candidates),
            "exact": tuple(self.own(phone) for phone in self.candidates),
        }[auxiliary]

        def rehearse(phones: Sequence[LocalDataset], seed: int) -> Transcript:
            if len(phones) > plan.population:
                raise ValueError(f"the plan is for {plan.population} phones, got {len(phones)}")
            arrays = _holding(self.arrays, phones, plan.population)
            absent = range(len(phones), plan.population)
            played = play(self.job_of(plan, seed + 1), arrays, absent=absent)
            return played.seen_by(observer, masked=masked)

        return Knowledge(
            base=self.built.base,
            adapter=query.built,
            training=query.training,
            optimizer=query.optimizer,
            background=self.arrays.background_of(0),
            speakers=self.public,
            candidates=tuple(KnownSpeaker(clips=clips) for clips in held),
            contributions=query.contributions,
            play=rehearse,
            clips=self.asked[0],
        )


def twice_spoken(scenario: Scenario) -> Scenario:
    """The scenario with twice the clips of each phone, where speech is synthesized."""
    corpus = scenario.corpus
    spoken = [name for name in _SPOKEN if name in type(corpus).model_fields]
    more = {name: 2 * getattr(corpus, name) for name in spoken}
    return scenario.model_copy(update={"corpus": corpus.model_copy(update=more)})


def subject_of(experiment: Experiment, built: BuiltExperiment, embed: Embedder) -> Subject:
    """Divides the clips and the phones of an experiment that was built.

    Raises:
      ScenarioError: if phones share voices, or there are too few phones or clips to attack.
    """
    arrays = built.job.load_arrays()
    if arrays.virtual_phones is not None:
        raise ScenarioError(
            "an audit asks whose voice it is, and here phones share voices: leave corpus.voices out"
        )
    if len(arrays.offsets) - 1 < 8:
        raise ScenarioError(f"an audit needs at least 8 phones, got {len(arrays.offsets) - 1}")
    seed = experiment.scenario.seed
    trained, kept_out = _divided(arrays, seed)
    rng = stream(seed, "audit", "candidates")
    phones = len(kept_out)
    drawn = np.sort(rng.permutation(phones)[: min(MOST_ATTACKED, phones // 2)])
    return Subject(
        built=built,
        arrays=trained,
        kept_out=kept_out,
        traits=tuple(phone.segments for phone in built.partition.federated),
        candidates=drawn,
        absent=frozenset(drawn[_coins(rng, len(drawn))].tolist()),
        public=(*_held_out(built), *_made(experiment, built, embed)),
        personalization=_personalization(experiment, trained),
    )


def _coins(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """A fair coin for each candidate, thrown again until both sides have two.

    Bounds on epsilon ask for coins that are independent of one another, which a fixed number of
    heads is not. Of `judge.FEWEST_COINS` candidates one throw in 25,000 is thrown again.
    """
    while True:
        coins = rng.random(count) < 0.5
        if 2 <= coins.sum() <= count - 2:
            return coins


def _personalization(experiment: Experiment, arrays: PopulationArrays) -> LocalTraining:
    """As the evaluation of held-out phones adapts by gradients: all clips in every step."""
    settings = experiment.scenario.personalization
    most = int(np.diff(arrays.offsets).max()) + len(arrays.background_of(0))
    return LocalTraining(
        learning_rate=settings.learning_rate, batch_size=most, local_epochs=settings.epochs,
        max_examples=most,
    )  # fmt: skip


def _divided(
    arrays: PopulationArrays, seed: int
) -> tuple[PopulationArrays, tuple[LocalDataset, ...]]:
    """What each phone trains on, and what it keeps out."""
    parts: tuple[list[LocalDataset], list[LocalDataset]] = ([], [])
    for phone, (start, stop) in enumerate(
        zip(arrays.offsets[:-1].tolist(), arrays.offsets[1:].tolist(), strict=True)
    ):
        order = stream(seed, "audit", "enrollment", phone).permutation(stop - start) + start
        said = np.atleast_2d(arrays.labels[order].T)[0]  # a word, or how a sentence begins
        order = order[np.argsort(said, kind="stable")]
        for part, into in zip((order[::2], order[1::2]), parts, strict=True):
            own = np.sort(part)
            into.append(LocalDataset(arrays.embeddings[own], arrays.labels[own]))
    trained, kept_out = parts
    if not any(len(clips) for clips in kept_out):
        raise ScenarioError("an audit needs phones with at least 2 clips")
    return _holding(arrays, trained, len(trained)), tuple(kept_out)


def _holding(
    arrays: PopulationArrays, phones: Sequence[LocalDataset], population: int
) -> PopulationArrays:
    """The same public parts, and phones with these clips; the others have none."""
    sizes = [len(phone) for phone in phones] + [0] * (population - len(phones))
    return dataclasses.replace(
        arrays,
        embeddings=np.concatenate([phone.embeddings for phone in phones]),
        labels=np.concatenate([phone.labels for phone in phones]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    )


def _held_out(built: BuiltExperiment) -> list[KnownSpeaker]:
    """Phones that never train, as public speakers."""
    return [
        KnownSpeaker(clips=_all_of(phone.own, phone.judged), traits=phone.phone.segments)
        for phone in built.held_out
    ]


def _all_of(own: Mapping[int, LocalDataset], judged: LocalDataset) -> LocalDataset:
    return own[max(own)].joined(judged) if own else judged


def _made(experiment: Experiment, built: BuiltExperiment, embed: Embedder) -> list[KnownSpeaker]:
    """Speakers of another seed, where speakers are synthesized."""
    if not isinstance(experiment.scenario.corpus, EmbeddedCorpus):
        return []
    other = experiment.with_seed(experiment.scenario.seed + _OTHER_VOICES).speakers
    phones = other.partition.federated[:MOST_PUBLIC]
    clips = embed(other.corpus, utterances_of(phones))
    return _known(phones, clips)


def _known(phones: Sequence[Phone], clips: LocalDataset) -> list[KnownSpeaker]:
    """Speakers with their part of the clips of all."""
    ends = np.cumsum([len(phone.utterances) for phone in phones])
    return [
        KnownSpeaker(
            clips=clips.take(np.arange(end - len(phone.utterances), end)), traits=phone.segments
        )
        for phone, end in zip(phones, ends.tolist(), strict=True)
    ]
