"""What a phone answers: one row per request, and nothing that has no row.

The server of a round is not trusted, so what it asks decides nothing. Each phone looks up in its
own plan how sums are taken and by which mechanism noise is added, and in its own durable state
which round it is in and which stage of it was answered last. A phone whose plan masks sends no
vector but a masked one; simulated sums are a choice of the phone's own plan.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from clients.state import ShardState
from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.job import Job, check_key
from fedspeech.messages import SessionMessage
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.protocol import Stage

_MASKED, _SIMULATED = frozenset({"masked"}), frozenset({"ideal"})
# Named one by one: a mechanism that is added to the library is refused until it has its place here.
_NOISE_IN_SUMS = frozenset({"distributed", "skellam", "central", "matrix_factorization", "none"})
_EVERY_MECHANISM = _NOISE_IN_SUMS | {"local"}
RoundRequest = messages.CohortListRequest | messages.UpdateRequest | messages.MaskedRequest


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Where one type of request is answered.

    Attributes:
      sums: values of the plan's `secure_aggregation`.
      mechanisms: values of the plan's `mechanism`.
      stage: that the request asks for; NONE: it belongs to no round, and is always answered alike.
      after: the stage of the same session that must have been answered last; None: the request
        opens a session, and `History.entering` says whether it may.
    """

    sums: frozenset[str]
    mechanisms: frozenset[str]
    stage: Stage
    after: Stage | None = None


_simulated = functools.partial(Permission, sums=_SIMULATED, mechanisms=_EVERY_MECHANISM)
_masked = functools.partial(Permission, sums=_MASKED, mechanisms=_NOISE_IN_SUMS)
PERMISSIONS: Mapping[type[object], Permission] = MappingProxyType(
    {
        messages.CountsRequest: Permission(
            sums=_MASKED | _SIMULATED, mechanisms=_EVERY_MECHANISM, stage=Stage.NONE
        ),
        messages.CohortListRequest: _simulated(stage=Stage.ADVERTISE),
        messages.UpdateRequest: _simulated(stage=Stage.MASK, after=Stage.ADVERTISE),
        messages.AdvertiseRequest: _masked(stage=Stage.ADVERTISE),
        messages.CohortListNotice: _masked(stage=Stage.ACCEPT, after=Stage.ADVERTISE),
        messages.ShareRequest: _masked(stage=Stage.SHARE, after=Stage.ACCEPT),
        messages.MaskRequest: _masked(stage=Stage.MASK, after=Stage.SHARE),
        messages.AgreeRequest: _masked(stage=Stage.AGREE, after=Stage.MASK),
        messages.UnmaskRequest: _masked(stage=Stage.UNMASK, after=Stage.AGREE),
    }
)


def require_permission(request: object, plan: PrivacyPlan) -> Permission:
    """Refuses a type of request that phones of a plan never answer."""
    never = f"a phone never answers {type(request).__name__}"
    permission = PERMISSIONS.get(type(request))
    if permission is None:
        raise ProtocolAbort(never)
    if plan.secure_aggregation not in permission.sums:
        raise ProtocolAbort(
            f"{never} under a plan with secure_aggregation={plan.secure_aggregation!r}"
        )
    if plan.mechanism not in permission.mechanisms:
        raise ProtocolAbort(f"{never} under a plan with mechanism={plan.mechanism!r}")
    return permission


def require_turn(
    request: RoundRequest, permission: Permission, job: Job, state: ShardState
) -> None:
    """Refuses a request that is not for these phones' round, session and next stage."""
    key, session = request.key, session_of(request)
    check_key(job, key)
    if permission.after is None:
        return
    history, wanted = state.history, permission.stage.word
    if key != state.key or session != history.session:
        raise ProtocolAbort(
            f"stage {wanted} of round {key.number} attempt {key.attempt} session {session}: not "
            f"the session that these phones are in, which is of round {history.round + 1}"
        )
    if history.stage != permission.after:
        raise ProtocolAbort(
            f"round {key.number}: these phones are in session {session} at stage "
            f"{history.stage.word}, and were asked for stage {wanted}: no second answer is computed"
        )


def session_of(request: RoundRequest) -> int:
    """Which start of its round a request belongs to; simulated sums start with each attempt."""
    return request.session if isinstance(request, SessionMessage) else request.key.attempt
