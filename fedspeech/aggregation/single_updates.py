"""Rules that read the updates of single phones, refused by name.

The server of a round holds the sum of what all phones sent, or those of a few groups. A rule that
ranks, trims or weights single updates has nothing to read there, and handing it the updates would
give up what masking is for. What a median or a trimmed mean can do over sums of groups stands in
`fedspeech.aggregation.robust`.
"""

from __future__ import annotations

from typing import Any

_MEDIAN = "takes the median of every coordinate over phones (Yin et al. 2018, arXiv:1803.01498)"
_TRIMS = (
    "drops the largest and smallest values of every coordinate (Yin et al. 2018, arXiv:1803.01498)"
)
_KRUM = "compares the distances between updates (Blanchard et al. 2017, NeurIPS)"
_BUFFER = "weights every update by its staleness (Nguyen et al. 2022, arXiv:2106.06639)"
SINGLE_UPDATES = {
    "krum": _KRUM,
    "multikrum": _KRUM,
    "bulyan": "selects updates by distance and trims (Mhamdi et al. 2018, arXiv:1802.07927)",
    "median": _MEDIAN,
    "fedmedian": _MEDIAN,
    "trimmedmean": _TRIMS,
    "fedtrimmedavg": _TRIMS,
    "geometricmedian": "reweights updates by distance (Pillutla et al. 2022, arXiv:1912.13445)",
    "rfa": "reweights updates by distance (Pillutla et al. 2022, arXiv:1912.13445)",
    "fedbuff": _BUFFER,
    "qffl": "weights every update by the phone's loss (Li et al. 2020, arXiv:1905.10497)",
    "qfedavg": "weights every update by the phone's loss (Li et al. 2020, arXiv:1905.10497)",
    "fednova": "divides every update by the phone's steps (Wang et al. 2020, arXiv:2007.07481)",
    "scaffold": "keeps a variate of every phone (Karimireddy et al. 2020, arXiv:1910.06378)",
}
"""Names without hyphens and underscores, and what such a rule reads."""

INSTEAD = (
    "every phone's delta is clipped, which bounds what one phone can do to a sum, and training can "
    "be held near the global adapter by training.proximal_mu; server_optimizer.robust_rule takes a "
    "median or a trimmed mean over sums of privacy.groups groups"
)


def single_updates_refused(name: object) -> str | None:
    """Why a rule of this name cannot run and what can be done; None if it is not such a name."""
    reads = SINGLE_UPDATES.get(str(name).lower().replace("_", "").replace("-", ""))
    if not reads:
        return None
    return (
        f"{name} {reads}, and this server opens the sum of a round and no single update; {INSTEAD}"
    )


def refuse_reader_of_replies(rule: Any, name: str) -> None:
    """Refuses an object that takes the replies of single clients, as Flower's strategies do.

    Raises:
      ValueError: if it has a method that is given them.
    """
    for method in ("aggregate_train", "aggregate_fit"):
        if hasattr(rule, method):
            raise ValueError(
                f"{name} has {method}, which reads the replies of single clients, and this server "
                "opens the sum of a round and no single update: a server rule has init(parameters) "
                f"and apply(state, mean_delta); {INSTEAD}"
            )
