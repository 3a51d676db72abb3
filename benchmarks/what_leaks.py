"""Figures of docs/what-leaks.md: membership, inversion and phrase exposure, by protection.

    python -m benchmarks.what_leaks membership --cache DIR
    python -m benchmarks.what_leaks inversion --cache DIR --pictures inversion.html
    python -m benchmarks.what_leaks phrases --cache DIR

Runs are those of `simulations.audits.playing`: the rounds of `fedspeech.round`. Seeds are fixed, so
figures repeat.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedspeech.audio.channel import apply_devices
from fedspeech.audits.attack import Attack, Knowledge, KnownSpeaker
from fedspeech.audits.gradient_inversion import inputs_of, label_means, likeness, matched, ratios
from fedspeech.audits.log_mel import SpeechPrior, log_mel_of
from fedspeech.audits.membership import MEMBERSHIP
from fedspeech.audits.phrase_exposure import PHRASE_EXPOSURE, by_chance, exposures
from fedspeech.audits.shadow import clipped, noise_stddev
from fedspeech.corpora.partition import utterances_of
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.evaluation.roc import roc, true_positive_rate_at
from fedspeech.job import Job
from fedspeech.models.adapters.head import pooled
from fedspeech.population import PopulationArrays
from fedspeech.queries.training import AdapterTraining
from fedspeech.seeds import stream
from fedspeech.synthesis.formants import sentences
from fedspeech.synthesis.lexicon import sentence_pronunciation
from fedspeech.synthesis.names import NAMES, PEOPLE, pretraining_names
from fedspeech.training.dataset import LocalDataset
from simulations.audits.playing import play
from simulations.scenario.reading import read_scenario
from simulations.setup.experiment import BuiltExperiment, build_experiment

ATTACKED = 140


def built_of(scenario: str, cache: Path) -> BuiltExperiment:
    """A shipped scenario, built."""
    return build_experiment(
        read_scenario(scenario), cache=cache, simulation_only=None, workers=1,
        progress=lambda done, total: None,
    )  # fmt: skip


def own(arrays: PopulationArrays, phone: int) -> LocalDataset:
    """Clips of a phone without the public ones."""
    start, stop = arrays.offsets[phone : phone + 2]
    return LocalDataset(arrays.embeddings[start:stop], arrays.labels[start:stop])


def job_of(
    built: BuiltExperiment, name: str, phones: int, cohort: int, z: float, **more: Any
) -> Job:
    """The scenario's job on so many phones, of which so many are expected in a round."""
    noise: dict[str, Any] = {"mechanism": "distributed", "epsilon_budget": 1e9}
    if z == 0:
        noise = {"mechanism": "none", "epsilon_budget": math.inf}
    plan = dataclasses.replace(
        built.job.plan, population=phones, participation_probability=cohort / phones,
        noise_multiplier=z, secure_aggregation="ideal", min_cohort=max(2, cohort // 2),
        min_reporting=max(2, cohort // 2 - 1), dropout_rate=0.0, delta=1 / (10 * phones),
        **noise, **more,
    )  # fmt: skip
    return dataclasses.replace(
        built.job, plan=plan, noise_entropy="seeded", repeats=name, identities=""
    )


def holding(arrays: PopulationArrays, phones: Sequence[LocalDataset]) -> PopulationArrays:
    """The same public parts, and these phones."""
    return dataclasses.replace(
        arrays,
        embeddings=np.concatenate([phone.embeddings for phone in phones]),
        labels=np.concatenate([phone.labels for phone in phones]),
        offsets=np.concatenate([[0], np.cumsum([len(phone) for phone in phones])]),
    )


def known(built: BuiltExperiment, arrays: PopulationArrays, **more: Any) -> Knowledge:
    """What attackers have."""
    query = AdapterTraining.of(built.job.query).on(arrays)
    given: dict[str, Any] = {"speakers": (), "candidates": ()} | more
    return Knowledge(
        base=built.base, adapter=query.built, training=query.training, optimizer=query.optimizer,
        background=arrays.background, contributions=query.contributions, play=_unused, **given,
    )  # fmt: skip


def _unused(phones: Sequence[LocalDataset], seed: int) -> Any:
    raise NotImplementedError


def membership(cache: Path, games: int, attacks: Sequence[Attack]) -> None:
    """Areas and true positives by cohort and noise, of candidates that were in by a fair coin."""
    built = built_of("quick", cache)
    arrays = built.job.load_arrays()
    count = len(arrays.offsets) - 1
    asked = [own(arrays, phone) for phone in range(ATTACKED)]
    public = tuple(KnownSpeaker(clips=own(arrays, phone)) for phone in range(ATTACKED, count))
    knowledge = known(
        built, arrays, speakers=public, candidates=tuple(KnownSpeaker(clips=c) for c in asked)
    )
    print("| cohort | z | epsilon, readers | attack | AUC | TPR at 1 % FPR |\n" + "|---" * 6 + "|")
    for cohort, z in ((12, 0.0), (24, 0.0), (60, 0.0), (24, 1.0), (24, 3.0)):
        found: dict[str, list[Any]] = {}
        for game in range(games):
            job = job_of(built, f"membership {game}", ATTACKED, cohort, z)
            included = stream(game, "coins").random(ATTACKED) < 0.5
            away = np.flatnonzero(~included).tolist()
            seen = play(job, holding(arrays, asked), absent=away)
            for attack in attacks:
                transcript = seen.seen_by(attack.observers[0], masked=True)
                scores = attack.guess(transcript, knowledge, stream(game, "attack")).scores[0]
                name = f"{attack.name} ({attack.observers[0]})"
                found.setdefault(name, []).append((scores[included], scores[~included]))
        epsilon = job.plan.guarantee(job.plan.rounds).epsilon_release
        for name, pairs in found.items():
            areas = [roc(*pair).area for pair in pairs]
            rates = [true_positive_rate_at(*pair, 0.01).value for pair in pairs]
            print(
                f"| {cohort} | {z:g} | {epsilon:.2f} | {name} | {_mean(areas)} | {_mean(rates)} |",
                flush=True,
            )


def _mean(values: Sequence[float]) -> str:
    spread = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.3f} +- {spread:.3f}"


def inversion(cache: Path, pictures: Path | None, phones: int = 60) -> None:
    """Likeness of what is recovered with the truth and with another speaker's clip of the word."""
    built = built_of("quick", cache)
    arrays, query = built.job.load_arrays(), AdapterTraining.of(built.job.query)
    adapter, model, background = query.built, arrays.initial, arrays.background
    public = LocalDataset(arrays.embeddings, arrays.labels).take(
        np.arange(arrays.offsets[phones], arrays.offsets[-1])
    )
    means = label_means(inputs_of(adapter, model, public), public.labels, len(arrays.initial) // 65)
    clips = [own(arrays, phone) for phone in range(phones)]
    first = [one.first(1) for one in clips]
    labels = np.array([one.labels[0] for one in first])
    truth = np.concatenate([inputs_of(adapter, model, one) for one in first])
    others = np.stack([
        inputs_of(adapter, model, public.take(np.flatnonzero(public.labels == label)[:1]))[0]
        for label in labels
    ])  # fmt: skip
    plan = job_of(built, "inversion", 240, 60, 1.0).plan
    stddev, rows = noise_stddev(plan, 1), {}
    for what, held in (
        ("one clip", first),
        ("all clips", clips),
        ("all clips and the background set", [one.joined(background) for one in clips]),
    ):
        said = query.contributions(held, model, [stream(1, what, p) for p in range(phones)])
        rows[what] = np.stack(said).astype(np.float64)
        rows[f"{what}, clipped"] = clipped(said, plan.clip_norm)
    last = rows[f"{what}, clipped"]
    noise = stream(2, "noise").normal(size=last.shape)
    rows["the same, with a phone's share of the noise (z = 1)"] = last + stddev * noise
    rows["the same, in a sum of 12 without noise"] = np.stack(
        [np.roll(last, shift, 0) for shift in range(12)]
    ).sum(0)
    print("| update | attack | likeness to the clip | to another's clip of the word | word read |")
    print("|---|---|---|---|---|")
    kept = {}
    for what, update in rows.items():
        there = background if "background" in what or "same" in what else background.first(0)
        by = {
            "ratio": ratios(adapter, update),
            "matching": matched(adapter, model, update, means, there),
        }
        for name, recovered in by.items():
            got = recovered[np.arange(phones), labels]
            near, far = (likeness(got, side, means[labels]) for side in (truth, others))
            parameters = adapter.spec.unflatten(model)
            read = (got @ parameters["head_weight"].T + parameters["head_bias"]).argmax(1) == labels
            print(
                f"| {what} | {name} | {_mean(near)} | {_mean(far)} | {read.mean():.2f} |",
                flush=True,
            )
            kept[what, name] = got
    if pictures is not None:
        _pictures(built, kept, pictures, labels)


def _pictures(built: BuiltExperiment, kept: Any, out: Path, labels: Any, shown: int = 4) -> None:
    """Log-mel beside the truth, standardized."""
    from plotly.subplots import make_subplots

    encoder, speakers = built.base.built_in, built.speakers
    federated = speakers.partition.federated
    heard = [utterances_of(federated[:shown]), utterances_of(federated[60:120])]
    features = [
        encoder.features(built.base.heard(speakers.corpus, clips)).numpy() for clips in heard
    ]
    ends = np.cumsum([0, *(len(phone.utterances) for phone in federated[:shown])])[:-1]
    context = torch.tensor(features[1][:, : encoder.context_frames].mean(0))
    prior = SpeechPrior.of(features[1][:, encoder.context_frames :])

    def encode(log_mel: torch.Tensor) -> torch.Tensor:
        whole = torch.cat([context.expand(len(log_mel), *context.shape), log_mel], dim=1)
        return pooled(encoder.network(whole)[:, -encoder.num_windows :], encoder.activation)

    truth = features[0][ends][:, encoder.context_frames :]
    rows = {"truth": truth}
    with torch.no_grad():
        exact = encode(torch.tensor(truth)).numpy()
    rows["from the clip's own features"] = log_mel_of(exact, encode, prior)
    for what in ("one clip", "all clips and the background set",
                 "the same, with a phone's share of the noise (z = 1)"):  # fmt: skip
        rows[what] = log_mel_of(kept[what, "matching"][:shown], encode, prior)
    center = prior.mean.reshape(-1)
    for what, found in rows.items():
        near = likeness(found.reshape(shown, -1), truth.reshape(shown, -1), center)
        print(f"log-mel, {what}: likeness {_mean(near)}")
    words = built.base.vocabulary.labels
    figure = make_subplots(
        rows=len(rows), cols=shown, row_titles=list(rows),
        column_titles=[words[label] for label in labels[:shown]],
    )  # fmt: skip
    for row, found in enumerate(rows.values(), 1):
        for column in range(shown):
            figure.add_heatmap(
                z=found[column].T, zmin=-2, zmax=2, showscale=False, row=row, col=column + 1
            )
    figure.update_layout(
        title="Standardized log-mel: truth, and what updates give away", height=1100
    )
    figure.write_html(out, include_plotlyjs="cdn")


def phrases(cache: Path, games: int, cohort: int = 12) -> None:
    """Exposure of a name that one phone says, by repetitions and noise."""
    built = built_of("asr-quick", cache)
    arrays, corpus = built.job.load_arrays(), built.speakers.corpus
    assert isinstance(corpus, SyntheticCorpus)
    names = tuple(name for name in PEOPLE if name not in pretraining_names(NAMES))

    def spoken(speaker: str, said: Sequence[str]) -> LocalDataset:
        take, device = corpus.recipe(next(u for u in corpus.utterances if u.speaker_id == speaker))
        takes = [
            dataclasses.replace(
                take, words=sentence_pronunciation(f"call {name}", NAMES), seed=take.seed + place
            )
            for place, name in enumerate(said)
        ]
        samples = built.base.encoder.clip_samples
        waves = sentences(takes, samples)
        clips = np.stack([np.pad(wave, (0, samples - len(wave))) for wave in waves])
        clips = apply_devices(clips, [device] * len(takes), [one.seed ^ 7 for one in takes])
        for row, wave in zip(clips, waves, strict=True):
            row[len(wave) :] = 0
        heard = built.adapter.embed(built.base.encoder_output(clips)).numpy()
        return LocalDataset(heard, built.base.vocabulary.encode([f"call {name}" for name in said]))

    voices = [name for name in corpus.speakers if name.startswith("public")][:3]
    public = [spoken(voice, names) for voice in voices]
    knowledge = known(
        built, arrays, clips=public[0].joined(public[1]).joined(public[2]), phrases=names
    )
    phones = [phone.speaker_id for phone in built.partition.federated]
    print(
        f"{len(names)} names: guessing has {by_chance(len(names)):.2f} of "
        f"{math.log2(len(names)):.2f} bits"
    )
    print("| repetitions | z | epsilon, readers | attack | exposure, bits |\n|---|---|---|---|---|")
    for repetitions, z in ((8, 0.0), (1, 0.0), (8, 1.0)):
        found: dict[str, list[float]] = {attack.name: [] for attack in PHRASE_EXPOSURE}
        for game in range(games):
            job = job_of(
                built, f"phrases {game}", cohort, cohort, z, rounds=4, max_participations=4
            )
            true = int(stream(game, "phrase").integers(len(names)))
            others = [own(arrays, 1 + game * cohort + phone) for phone in range(cohort - 1)]
            # As many sentences as its training takes, the name in some of them.
            canary = spoken(phones[game], [names[true]] * repetitions).joined(
                own(arrays, game).first(8 - repetitions)
            )
            seen = play(job, holding(arrays, [canary, *others])).seen_by("reader", masked=True)
            for attack in PHRASE_EXPOSURE:
                scores = attack.guess(seen, knowledge, stream(game, "attack")).scores
                found[attack.name].append(float(exposures(scores)[0, true]))
        epsilon = job.plan.guarantee(job.plan.rounds).epsilon_release
        for name, bits in found.items():
            print(f"| {repetitions} | {z:g} | {epsilon:.2f} | {name} | {_mean(bits)} |", flush=True)


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("membership", "inversion", "phrases"))
    parser.add_argument("--cache", type=Path, required=True, help="folder of bases and job arrays")
    parser.add_argument("--games", type=int, default=5, help="runs of either row")
    parser.add_argument("--quick", action="store_true", help="membership without shadow runs")
    parser.add_argument("--pictures", type=Path, help="file for log-mel beside the truth, HTML")
    given = parser.parse_args()
    if given.part == "membership":
        rounds_alone = MEMBERSHIP[:2]
        membership(given.cache, given.games, rounds_alone if given.quick else MEMBERSHIP)
    elif given.part == "inversion":
        inversion(given.cache, given.pictures)
    else:
        phrases(given.cache, given.games)


if __name__ == "__main__":
    main()
