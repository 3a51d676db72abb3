"""Plots over phones never trained on: single phones, own clips per word, and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulations.report import phrasing
from simulations.report.figures import (
    DASHES,
    MODELS,
    Figure,
    Json,
    Model,
    axes,
    hundredfold,
    marker,
    percent,
    rule,
)
from simulations.results.records import Accuracy, Summary


def distribution(summary: Summary) -> list[Figure]:
    """Phones one by one: before against after, and how much each gained."""
    phones = summary.phone_accuracies
    if phones is None or not phones.federated:
        return []
    gains = _differences(phones.personalized, phones.federated)
    control = _differences(phones.control, phones.federated) if phones.control else []
    low = 100 * min((*phones.federated, *phones.personalized)) - 4
    scatter: list[Json] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [low, 103],
            "y": [low, 103],
            "line": {"color": "@muted", "width": 1, "dash": "dot"},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "one phone",
            "x": hundredfold(phones.federated),
            "y": hundredfold(phones.personalized),
            "marker": {"color": "@personalized", "size": 8, "opacity": 0.6},
            "hovertemplate": "%{x:.1f} % → %{y:.1f} %<extra></extra>",
            "showlegend": False,
        },
    ]
    edge = max(abs(gain) for gain in (*gains, *control))
    bins = {
        "start": -5 * math.ceil(edge / 5) - 2.5,
        "end": 5 * math.ceil(edge / 5) + 2.5,
        "size": 5,
    }
    histogram: list[Json] = [
        {
            "type": "histogram",
            "name": "own clips",
            "x": gains,
            "xbins": bins,
            "marker": {"color": "@personalized", "opacity": 0.85},
            "hovertemplate": "%{x} points: %{y} phones<extra>own clips</extra>",
        }
    ]
    if control:
        histogram.append(
            {
                "type": "histogram",
                "name": "control",
                "x": control,
                "xbins": bins,
                "marker": {"color": "@control", "opacity": 0.85},
                "hovertemplate": "%{x} points: %{y} phones<extra>control</extra>",
            }
        )
    below = sum(
        after < before for before, after in zip(phones.federated, phones.personalized, strict=True)
    )
    above = sum(
        after > before for before, after in zip(phones.federated, phones.personalized, strict=True)
    )
    total = len(phones.federated)
    return [
        Figure(
            key="before-after",
            title="Each phone before and after personalizing",
            eyes=("simulator",),
            says=(
                f"Above the dotted line a phone gained: {above} of {total} did, {below} lost, "
                f"{total - above - below} stayed the same."
            ),
            header=("phone (by federated accuracy)", "clips", "base", *MODELS[1:]),
            table=_phone_table(summary),
            traces=scatter,
            layout=axes(
                "federated, % correct",
                "personalized, % correct",
                x={"range": [low, 103]},
                y={"range": [low, 103]},
            ),
            height=340,
        ),
        Figure(
            key="gains",
            title="How much each phone gained",
            eyes=("simulator",),
            says=(
                "Points over the federated adapter, in bins of five. Beside it the control: "
                "the same procedure with another phone’s clips."
            ),
            header=("gain, points", "phones, own clips", "phones, control"),
            table=_bins(gains, control, edge),
            traces=histogram,
            layout=axes("gain, points", "phones") | {"bargap": 0.15, "bargroupgap": 0.05},
            height=340,
        ),
    ]


def takes(summary: Summary) -> list[Figure]:
    """What a few own clips per word bring, with and without guard, beside the control."""
    if len(summary.takes) < 2:
        return []
    clips = [take.clips_per_word for take in summary.takes]
    per_word = "own clips per target word" if summary.wer is None else "own sentences"
    traces = [
        *_band(clips, [take.personalized for take in summary.takes], "personalized"),
        _curve(clips, [take.personalized for take in summary.takes], "own clips", "personalized"),
        _curve(
            clips,
            [take.without_guard for take in summary.takes],
            "own clips, no guard",
            "personalized",
            dash="dot",
            symbol="diamond-open",
        ),
        _curve(clips, [take.control for take in summary.takes], "control", "control"),
    ]
    return [
        Figure(
            key="takes",
            title=per_word.capitalize(),
            eyes=("simulator",),
            says=(
                f"Accuracy on a phone’s other clips after it adapted with so many {per_word}. "
                "The band is the interval of the mean over phones. "
                "Control: another phone’s clips, as many."
            ),
            header=(per_word, "own clips", "worst decile", "no guard", "control", "phones"),
            table=tuple(
                (
                    str(take.clips_per_word),
                    _mean(take.personalized),
                    phrasing.percent(take.personalized.worst_decile),
                    _mean(take.without_guard),
                    _mean(take.control),
                    str(take.personalized.phones),
                )
                for take in summary.takes
            ),
            traces=[trace for trace in traces if trace],
            layout=axes(per_word, "% correct", x={"dtick": 1}),
            height=340,
        )
    ]


def detection(summary: Summary) -> list[Figure]:
    """False rejects against false accepts, one curve a model."""
    traces = []
    for model in MODELS:
        curve = summary.det.get(model)
        pairs = (
            [(a, r) for a, r in zip(curve.far, curve.frr, strict=True) if a > 0] if curve else []
        )
        if pairs:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": model,
                    "x": [100 * far for far, _ in pairs],
                    "y": [100 * frr for _, frr in pairs],
                    "line": {"color": f"@{model}", "width": 2, "dash": DASHES[model]},
                    "hovertemplate": "FAR %{x:.2f} %, FRR %{y:.1f} %" + f"<extra>{model}</extra>",
                }
            )
    if not traces:
        return []
    stated = summary.frr_at_far
    layout = axes(
        "false accepts, % of clips without a target word",
        "false rejects, %",
        x={"type": "log", "tickformat": "~g", "nticks": 6},
        y={"rangemode": "tozero"},
    )
    if stated and stated.far > 0:
        layout["shapes"] = [rule("x", 100 * stated.far)]
    return [
        Figure(
            key="det",
            title="False rejects against false accepts",
            eyes=("simulator",),
            says=(
                "Each point is one threshold; lower left is better."
                + (
                    f" The line marks {phrasing.percent(stated.far)} false accepts."
                    if stated
                    else ""
                )
            ),
            header=("model", "false accepts", "false rejects"),
            table=tuple(
                (model, phrasing.percent(stated.far), percent(getattr(stated, model)))
                for model in MODELS
                if getattr(stated, model) is not None
            )
            if stated
            else (),
            traces=traces,
            layout=layout,
            height=340,
        )
    ]


def _phone_table(summary: Summary) -> tuple[tuple[str, ...], ...]:
    """Phones ordered by federated accuracy; numbered, never named."""
    phones = summary.phone_accuracies
    assert phones is not None
    order = sorted(range(len(phones.federated)), key=lambda index: phones.federated[index])
    return tuple(
        (
            str(place),
            str(phones.clips[index]) if phones.clips else "–",
            phrasing.percent(phones.base[index]),
            phrasing.percent(phones.federated[index]),
            phrasing.percent(phones.personalized[index]),
            phrasing.percent(phones.control[index]) if phones.control else "–",
        )
        for place, index in enumerate(order, start=1)
    )


def _bins(
    gains: Sequence[float], control: Sequence[float], edge: float
) -> tuple[tuple[str, ...], ...]:
    """Counts of the histogram."""
    last = math.ceil(edge / 5)
    counts = []
    for center in range(-5 * last, 5 * last + 1, 5):
        own, other = (
            sum(center - 2.5 <= gain < center + 2.5 for gain in values)
            for values in (gains, control)
        )
        if own or other:
            counts.append(
                (f"{center:+d}".replace("-", "−"), str(own), str(other) if control else "–")
            )
    return tuple(counts)


def _differences(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """Differences in points, free of floating-point dust so that bins hold what they say."""
    return [round(100 * (a - b), 6) for a, b in zip(after, before, strict=True)]


def _curve(
    clips: Sequence[int],
    found: Sequence[Accuracy | None],
    name: str,
    role: Model,
    *,
    dash: str | None = None,
    symbol: str | None = None,
) -> Json:
    """A curve over clips per word; empty if there is no value."""
    pairs = [(x, 100 * a.mean) for x, a in zip(clips, found, strict=True) if a is not None]
    if not pairs:
        return {}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [x for x, _ in pairs],
        "y": [y for _, y in pairs],
        "line": {"color": f"@{role}", "width": 2, "dash": dash or DASHES[role]},
        "marker": marker(role, 9) | ({"symbol": symbol} if symbol else {}),
        "hovertemplate": "%{x} per word: %{y:.1f} %<extra>" + name + "</extra>",
    }


def _band(clips: Sequence[int], found: Sequence[Accuracy], role: str) -> list[Json]:
    """The interval of a curve as a band."""
    known = [(x, a.interval) for x, a in zip(clips, found, strict=True) if a.interval is not None]
    if len(known) < 2:
        return []
    outline = [(x, interval.low) for x, interval in known]
    outline += [(x, interval.high) for x, interval in reversed(known)]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _ in outline],
            "y": [100 * y for _, y in outline],
            "fill": "toself",
            "fillcolor": f"@{role}-soft",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _mean(accuracy: Accuracy | None) -> str:
    """A mean with its interval, or a dash."""
    if accuracy is None:
        return "–"
    mean = phrasing.percent(accuracy.mean)
    if accuracy.interval is None:
        return mean
    return f"{mean} [{100 * accuracy.interval.low:.1f}, {100 * accuracy.interval.high:.1f}]"
