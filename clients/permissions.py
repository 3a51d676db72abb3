"""What a phone answers: one row per request, and nothing that has no row.

The server of a round is not trusted, so what it asks decides nothing. Each phone looks up in its
own plan how sums are taken and by which mechanism noise is added, and in its own state which stage
of the round it has answered last. A phone whose plan masks sends no vector but a masked one;
simulated sums are a choice of the phone's own plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedspeech.errors import ProtocolAbort
from fedspeech.messages import (
    AdvertiseRequest,
    AgreeRequest,
    CountsRequest,
    MaskRequest,
    RosterNotice,
    RosterRequest,
    ShareRequest,
    UnmaskRequest,
    UpdateRequest,
)
from fedspeech.privacy.plan import PrivacyPlan

_MASKED, _SIMULATED = frozenset({"masked"}), frozenset({"ideal"})
# Named one by one: a mechanism that is added to the library is refused until it has its place here.
_NOISE_IN_SUMS = frozenset({"distributed", "skellam", "central", "none"})
_EVERY_MECHANISM = _NOISE_IN_SUMS | {"local"}


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Where one type of request is answered.

    Attributes:
      sums: values of the plan's `secure_aggregation`.
      mechanisms: values of the plan's `mechanism`.
    """

    sums: frozenset[str]
    mechanisms: frozenset[str]


_IN_SIMULATED_SUMS = Permission(sums=_SIMULATED, mechanisms=_EVERY_MECHANISM)
_IN_MASKED_SUMS = Permission(sums=_MASKED, mechanisms=_NOISE_IN_SUMS)

PERMISSIONS: Mapping[type[object], Permission] = MappingProxyType(
    {
        CountsRequest: Permission(sums=_MASKED | _SIMULATED, mechanisms=_EVERY_MECHANISM),
        RosterRequest: _IN_SIMULATED_SUMS,
        UpdateRequest: _IN_SIMULATED_SUMS,
        AdvertiseRequest: _IN_MASKED_SUMS,
        RosterNotice: _IN_MASKED_SUMS,
        ShareRequest: _IN_MASKED_SUMS,
        MaskRequest: _IN_MASKED_SUMS,
        AgreeRequest: _IN_MASKED_SUMS,
        UnmaskRequest: _IN_MASKED_SUMS,
    }
)


def require_permission(request: object, plan: PrivacyPlan) -> None:
    """Refuses a request that phones of a plan do not answer.

    Args:
      request: any message from a server.
      plan: the phones' own.

    Raises:
      ProtocolAbort: naming the request and what the plan says.
    """
    permission = PERMISSIONS.get(type(request))
    if permission is None:
        raise ProtocolAbort(f"a phone never answers {type(request).__name__}")
    if plan.secure_aggregation not in permission.sums:
        raise ProtocolAbort(
            f"a phone never answers {type(request).__name__} under its plan, which says "
            f"secure_aggregation={plan.secure_aggregation!r}"
        )
    if plan.mechanism not in permission.mechanisms:
        raise ProtocolAbort(
            f"a phone never answers {type(request).__name__} under its plan, which says "
            f"mechanism={plan.mechanism!r}"
        )
