"""Sections that an evaluation of every task has: accuracy, changes, phones worse off, shots.

All of them count mistakes of held-out phones on the same examples. A mistake is what its task says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.metric import (
    ACCURACY,
    CHANGE,
    REGRESSION,
    SHOTS,
    WORST_DECILE,
    Axis,
    Chart,
    Curve,
    Interval,
    Metric,
    Model,
    Section,
    Segment,
    since,
)
from fedspeech.evaluation.personalization import (
    RESAMPLES,
    accuracy_metrics,
    phone_accuracies,
    regression_metric,
)
from fedspeech.evaluation.segments import cut
from fedspeech.seeds import stream
from fedspeech.vectors import Vector

Mistakes = Sequence[NDArray[np.int64]]
"""Per phone, mistakes in each of its examples, shape (examples,)."""

Cells = Mapping[Segment, tuple[int, ...]]
"""Groups of phones that are large enough, to the positions of their members."""

ShotLine = tuple[str, Model, str, Mapping[int, Mistakes]]
"""Name, model, name of the bootstrap's stream, and mistakes by shots; 0 draws as "federated"."""


def cells(
    segments: Sequence[Mapping[str, str]], minimum: int, pretraining: Collection[str]
) -> tuple[Cells, dict[str, int]]:
    """Groups phones by what is known of them; each segment's groups have a smallest size.

    Args:
      segments: of each phone, name to value.
      minimum: smallest group that is shown.
      pretraining: accents in the base's pre-training data; empty if unknown.

    Returns:
      The groups, and by segment the phones in a group that is too small even when merged.
    """
    found: dict[Segment, tuple[int, ...]] = {}
    withheld: dict[str, int] = {}
    for name in sorted({name for phone in segments for name in phone}):
        for cell in cut([phone.get(name) for phone in segments], minimum):
            if cell.withheld:
                withheld[name] = cell.num_phones
                continue
            known = name == "accent" and bool(pretraining) and not cell.merged
            segment = Segment(
                name=name,
                value=cell.value,
                merged=cell.merged,
                in_pretraining_data=cell.value in pretraining if known else None,
            )
            found[segment] = cell.members
    return found, withheld


def accuracy_section(
    mistakes: Mapping[Model, Mistakes], groups: Cells, name: str, seed: int
) -> Section:
    """Accuracy over all phones, by segment and phone by phone: each phone counts once."""
    phones = len(mistakes["base"])
    everybody: dict[Segment | None, tuple[int, ...]] = {None: tuple(range(phones))}
    return Section(
        key=ACCURACY,
        title=name[:1].upper() + name[1:],
        says=f"Mean over {phones} phones, each counting once. Dot: mean; bar: 95 % interval, "
        "bootstrap over phones; tick: worst decile.",
        metrics=tuple(
            metric
            for segment, members in (everybody | dict(groups)).items()
            for model, of_model in mistakes.items()
            for metric in accuracy_metrics(
                [of_model[i] == 0 for i in members],
                stream(seed, "bootstrap", model),
                name=name,
                model=model,
                segment=segment,
            )
        ),
        charts=(_by_phone(mistakes, name),),
    )


def _by_phone(mistakes: Mapping[Model, Mistakes], name: str) -> Chart:
    """Accuracy phone by phone, no identity attached."""
    examples = tuple(len(clips) for clips in mistakes["base"])
    places = tuple(float(place) for place in range(1, len(examples) + 1))
    return Chart(
        name="Accuracy of each phone",
        says="Phones are numbered and never named.",
        x=Axis(name="phone", unit="number"),
        y=Axis(name=name),
        curves=tuple(
            Curve(
                name=model,
                x=places,
                y=tuple(map(float, phone_accuracies([clips == 0 for clips in found]))),
                model=model,
            )
            for model, found in mistakes.items()
        ),
        counted=examples,
        single_phones=True,
    )


def change_section(
    rates: Mapping[Model, Callable[[Vector], Vector]],
    pairs: Iterable[tuple[Model, Model]],
    name: str,
    phones: int,
    seed: int,
) -> Section | None:
    """How far the error of one model is from that of another; None where phones do not tell.

    The same phones are drawn for both (paired bootstrap, Efron and Tibshirani 1993, chapter 8), so
    what is hard for both of them is no difference.

    Args:
      rates: of each model, the error where phones count so many times: (draws, phones) to (draws,).
      pairs: later and earlier model.
      name: of the error.
      phones: their number.
      seed: of the draws.
    """
    drawn = stream(seed, "bootstrap", CHANGE).multinomial(
        phones, np.full(phones, 1 / phones), RESAMPLES
    )
    # The first row counts every phone once: the value itself.
    times = np.concatenate([np.ones((1, phones)), drawn])
    errors = {model: of(times) for model, of in rates.items()}
    metrics = []
    for later, earlier in pairs:
        value, *others = errors[later] - errors[earlier]
        told = np.array(others)[np.isfinite(others)]
        if not np.isfinite(value) or not len(told):
            continue
        low, high = np.quantile(told, [0.025, 0.975])
        metrics.append(
            Metric(
                name=f"change of {name}",
                value=float(value),
                lower_is_better=True,
                model=later,
                variant=since(earlier),
                phones=phones,
                interval=Interval(
                    low=float(low), high=float(high), method="paired bootstrap over phones"
                ),
            )
        )
    if not metrics:
        return None
    return Section(
        key=CHANGE,
        title="What each stage changed",
        says="Points of per cent, negative where errors became fewer, with the 95 % interval of "
        "the difference, bootstrap over phones. Where it holds zero, these phones cannot tell a "
        "change. What another seed, or another processor, would change is not in it.",
        metrics=tuple(metrics),
    )


def regression_section(
    mistakes: Mapping[Model, Mistakes], before: Mistakes, unguarded: Mistakes, groups: Cells
) -> Section:
    """Phones that make more mistakes than before, beside chance.

    `before` is of the stage that phones personalized from; unguarded phones adapted in any case.
    """
    personalized = mistakes["personalized"]
    return Section(
        key=REGRESSION,
        title="Phones worse off",
        says="A phone is worse off if it makes more mistakes on its examples than before: wrong "
        "answers, or wrong words of sentences. With few examples, luck alone makes some look so. "
        "Federated is held against the base, the others against what phones personalized from.",
        metrics=(
            regression_metric(mistakes["base"], mistakes["federated"], model="federated"),
            regression_metric(before, personalized, model="personalized"),
            regression_metric(before, unguarded, model="personalized", variant="without guard"),
            regression_metric(before, mistakes["control"], model="control"),
            *(
                regression_metric(
                    [before[i] for i in members],
                    [personalized[i] for i in members],
                    model="personalized",
                    segment=segment,
                )
                for segment, members in groups.items()
            ),
        ),
    )


def shots_section(lines: Iterable[ShotLine], name: str, shots: str, seed: int) -> Section:
    """Accuracy over shots; 0 is the adapter that phones start from."""
    means, tails = [], []
    for line, model, draws, found in lines:
        x = tuple(float(count) for count in found)
        over = [
            accuracy_metrics(
                [clips == 0 for clips in mistakes],
                # With 0 shots all lines are at one adapter, so they get one interval.
                stream(seed, "bootstrap", draws if count else "federated"),
                name=name,
                model=model,
            )
            for count, mistakes in found.items()
        ]
        intervals = [mean.interval for mean, _ in over if mean.interval]
        means.append(
            Curve(
                name=line,
                x=x,
                y=tuple(mean.value for mean, _ in over),
                model=model,
                low=tuple(interval.low for interval in intervals),
                high=tuple(interval.high for interval in intervals),
            )
        )
        tails.append(Curve(name=line, x=x, y=tuple(worst.value for _, worst in over), model=model))
    axis = Axis(name=shots, unit="number")
    return Section(
        key=SHOTS,
        title=shots[:1].upper() + shots[1:],
        charts=(
            Chart(
                name=f"Accuracy over {shots}",
                says="Accuracy on a phone’s other examples after it adapted with so many. The band "
                "is the interval of the mean over phones. Control: another phone’s examples, as "
                "many.",
                x=axis,
                y=Axis(name=name),
                curves=tuple(means),
            ),
            Chart(
                name=f"Worst decile over {shots}",
                says="Mean accuracy of the tenth of phones that fare worst.",
                x=axis,
                y=Axis(name=WORST_DECILE),
                curves=tuple(tails),
            ),
        ),
    )
