"""Where do the best attacks reach chance, and what does it cost?

Over noise, size of a sum, rounds, and size of the adapter. A curve follows, for every secret, the
attack that did best where nothing protects; secrets that nobody learned there have none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from fedspeech.audits.attack import Attack
from fedspeech.evaluation.metric import Metric
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import stream
from fedspeech.vectors import FloatVector
from simulations.audits.judge import NothingToAsk, Shown
from simulations.audits.matrix import Kept, asked, attacked
from simulations.audits.playing import Played, play
from simulations.audits.results import AttackCurve, Cell, Point
from simulations.audits.subject import Subject, with_sums, without_noise
from simulations.audits.views import View, in_sums_of, shown

NOISE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # times the plan's
MOST_CURVES = 4
Accuracy = Callable[[FloatVector], float]
_SERVER = View(observer="server", protection="nothing")
_NOISY = View(observer="server", protection="DP")


def success(metric: Metric) -> float:
    """Where between chance (0) and certainty (1) a figure is; negative below chance."""
    chance = metric.by_chance or 0.0
    if metric.lower_is_better:
        return (chance - metric.value) / chance
    return (metric.value - chance) / (1 - chance)


def best_of_each(cells: Iterable[Cell], attacks: Sequence[Attack]) -> tuple[Attack, ...]:
    """The attacks that curves follow: of each secret the best on an unprotected server."""
    by_name = {(attack.secret, attack.name): attack for attack in attacks}
    best: dict[str, Cell] = {}
    for cell in cells:
        if cell.observer == "server" and "nothing" in cell.protections and cell.succeeded:
            known = best.get(cell.secret)
            if known is None or success(cell.metrics[0]) > success(known.metrics[0]):
                best[cell.secret] = cell
    ranked = sorted(best.values(), key=lambda cell: -success(cell.metrics[0]))
    return tuple(by_name[cell.secret, cell.attack] for cell in ranked[:MOST_CURVES])


def curves(
    subject: Subject,
    runs: dict[bool, Played],
    attacks: Sequence[Attack],
    kept: Kept,
    accuracy: Accuracy,
    done: Callable[[int, int, str], None],
    adapters: Callable[[], Iterator[tuple[Subject, Accuracy]]],
) -> tuple[AttackCurve, ...]:
    """All curves; those of noise only where the plan has any.

    Args:
      subject: what is attacked.
      runs: of `matrix.played_both`.
      attacks: that curves follow.
      kept: where curves are kept.
      accuracy: of a model on held-out phones.
      done: called with the number of curves that are over, of all, and the next one.
      adapters: makes the same phones with other adapters, each with its accuracy.
    """
    if not attacks:
        return ()
    makers: list[tuple[str, Callable[[], AttackCurve]]] = [
        ("size of a sum", lambda: _over_sizes(subject, runs[False], attacks)),
        ("rounds", lambda: _over_rounds(subject, runs[False], attacks)),
        ("adapter size", lambda: _over_adapters(adapters(), attacks)),
    ]
    if True in runs:
        makers.insert(0, ("noise", lambda: _over_noise(subject, runs[False], attacks, accuracy)))
    found = []
    for place, (name, make) in enumerate(makers):
        done(place, len(makers), name)
        found.append(kept.or_made(f"curve {name}".replace(" ", "-"), AttackCurve, make))
    return tuple(found)


def _over_noise(
    subject: Subject, without: Played, attacks: Sequence[Attack], accuracy: Accuracy
) -> AttackCurve:
    plan = subject.job.plan
    points = [
        Point(
            x=0.0, figures=_figures(subject, without, shown(_SERVER, subject, without), attacks),
            accuracy=accuracy(without.releases[-1]),
        )
    ]  # fmt: skip
    for times in NOISE:
        noisy = _with_noise(plan, times)
        if noisy is None:
            continue
        played = play(subject.job_of(noisy), subject.arrays, absent=subject.absent)
        points.append(
            Point(
                x=noisy.noise_multiplier,
                figures=_figures(subject, played, shown(_NOISY, subject, played), attacks),
                accuracy=accuracy(played.releases[-1]),
                epsilon=noisy.guarantee(noisy.rounds).epsilon_release,
            )
        )
    return AttackCurve(
        key="noise",
        title="Over the noise, without secure aggregation",
        says="A server that reads every contribution alone, with the part of the noise that is on "
        "it. Epsilon is what readers of the models are promised; against this server nothing is "
        "promised unless each phone adds noise enough for itself.",
        x="noise multiplier",
        points=tuple(points),
    )


def _with_noise(plan: PrivacyPlan, times: float) -> PrivacyPlan | None:
    """The plan with so much more noise; None where its rules refuse it."""
    try:
        return dataclasses.replace(
            with_sums(plan), noise_multiplier=times * plan.noise_multiplier,
            epsilon_budget=float("inf"),
        )  # fmt: skip
    except ValueError:
        return None


def _over_sizes(subject: Subject, played: Played, attacks: Sequence[Attack]) -> AttackCurve:
    rng = stream(subject.job.seed, "audit", "groups")
    most = min(len(one.reporting) for one in played.rounds)
    sizes = [2**power for power in range(most.bit_length()) if 2**power <= most]
    points = []
    for size in dict.fromkeys([*sizes, most]):
        seen = in_sums_of(played, size, rng)
        figures = _figures(subject, played, seen, attacks)
        if figures:
            points.append(Point(x=float(size), figures=figures))
    return AttackCurve(
        key="sizes",
        title="Over the number of phones in a sum, without noise",
        says="The same contributions, summed in random groups: what secure aggregation alone "
        "leaves to a server.",
        x="phones in a sum",
        points=tuple(points),
    )


def _over_rounds(subject: Subject, played: Played, attacks: Sequence[Attack]) -> AttackCurve:
    most = len(played.rounds)
    rounds = [2**power for power in range(most.bit_length()) if 2**power <= most]
    points = []
    for count in dict.fromkeys([*rounds, most]):
        part = played.first(count)
        figures = _figures(subject, part, shown(_SERVER, subject, part), attacks)
        if figures:
            points.append(Point(x=float(count), figures=figures))
    return AttackCurve(
        key="rounds",
        title="Over rounds, without any protection",
        says="A server that reads every contribution of the first rounds alone.",
        x="rounds",
        points=tuple(points),
    )


def _over_adapters(
    subjects: Iterator[tuple[Subject, Accuracy]], attacks: Sequence[Attack]
) -> AttackCurve:
    points = []
    for subject, accuracy in subjects:
        job = subject.job_of(without_noise(subject.job.plan))
        played = play(job, subject.arrays, absent=subject.absent)
        figures = _figures(subject, played, shown(_SERVER, subject, played), attacks)
        if figures:
            points.append(
                Point(
                    x=float(subject.job.plan.dimension), figures=figures,
                    accuracy=accuracy(played.releases[-1]),
                )
            )  # fmt: skip
    return AttackCurve(
        key="adapters",
        title="Over the size of the adapter, without any protection",
        says="The same phones with each adapter that fits their task (at most 240 phones where "
        "they are synthesized). A larger adapter learns more and tells more; the noise that a "
        "plan adds grows with the root of its size at the same epsilon.",
        x="parameters",
        points=tuple(sorted(points, key=lambda point: point.x)),
    )


def _figures(
    subject: Subject, played: Played, seen: Shown, attacks: Sequence[Attack]
) -> dict[str, Metric]:
    """The first figure of each attack that has something to ask here."""
    found = {}
    for attack in attacks:
        name = f"{attack.secret}: {attack.name}"
        try:
            _, metrics = attacked(
                subject, played, asked(seen, subject, attack), attack,
                masked=not seen.transcript.single, name=name,
            )  # fmt: skip
            found[name] = metrics[0]
        except NothingToAsk:
            continue
    return found
