"""How a parcel gets from a phone to its server: one state machine for each, over weeks and kills.

    uploader = Uploader(vault, send, area="wake_word")
    uploader.post(parcel, purpose="federated_training", until_s=end_of_round)
    uploader.tick(condition)           # whenever the phone wakes; `states` says what became of each

A parcel is on disk before it is sent first, so a kill sends the same bytes again and never a second
answer with other noise. It lies under its consent: revoking withdraws it. Retries wait a random
part of a window that doubles ("full jitter", Brooker 2015, "Exponential Backoff And Jitter"), and
whoever comes back after being offline waits one too, so that phones do not return together.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fedspeech.device.consent import Purpose
from fedspeech.device.egress import Parcel
from fedspeech.device.scheduler import Condition
from fedspeech.device.vault import Vault
from fedspeech.errors import ConsentMissing, StoreRefused

State = Literal["waiting", "offline", "backing off", "delivered", "given up", "withdrawn"]
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        "waiting": frozenset({"offline", "backing off", "delivered", "given up", "withdrawn"}),
        "offline": frozenset({"waiting", "given up", "withdrawn"}),
        "backing off": frozenset({"offline", "waiting", "given up", "withdrawn"}),
        "delivered": frozenset(),
        "given up": frozenset(),
        "withdrawn": frozenset(),
    }
)
"""What may follow a state. "waiting": for its second, online; "given up": its round is over."""

FIRST_WINDOW_S = 30.0
LONGEST_WINDOW_S = 6 * 3600.0
_RANDOM = secrets.SystemRandom()
_HEAD = struct.Struct("<dd")  # release, end


@dataclass
class _Way:
    """One parcel on its way."""

    purpose: Purpose
    due_s: float
    until_s: float
    state: State = "waiting"
    attempts: int = 0


class Uploader:
    """Parcels of one phone.

    Args:
      vault: in which they lie.
      send: hands bytes to the network; raises OSError if they did not arrive. It may be given the
        same bytes again after they did.
      area: part of the product.
      metered: whether it may send where the network is metered.
      draw: uniform in [0, 1), of the operating system.
    """

    def __init__(
        self,
        vault: Vault,
        send: Callable[[bytes], None],
        *,
        area: str,
        metered: bool = False,
        draw: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._vault, self._send, self._area = vault, send, area
        self._metered, self._draw = metered, draw
        self._ways: dict[str, _Way] = {}
        for purpose in ("federated_training", "analytics"):
            self._take_up(purpose)

    @property
    def states(self) -> dict[str, State]:
        """State of each parcel of this process, by the id of its record."""
        return {record: way.state for record, way in self._ways.items()}

    def post(self, parcel: Parcel, *, purpose: Purpose, until_s: float) -> str:
        """Takes a parcel, on disk when the call returns; the id of its record.

        Args:
          parcel: that the door let out.
          purpose: of its payload.
          until_s: second after which nobody waits for it.

        Raises:
          ConsentMissing: if the user no longer agrees.
          StoreFull: if the disk is full.
        """
        content = _HEAD.pack(parcel.release_s, until_s) + parcel.content
        record = self._vault.keep("parcel", content, purpose=purpose, area=self._area)
        self._ways[record] = _Way(purpose=purpose, due_s=parcel.release_s, until_s=until_s)
        return record

    def tick(self, condition: Condition) -> None:
        """Does what is due now; asked as often as the phone wakes, and in no order of its own."""
        now_s = self._vault.store.now()
        online = condition.wifi or self._metered
        for record, way in self._ways.items():
            if TRANSITIONS[way.state]:
                self._advance(record, way, now_s, online=online)

    def _advance(self, record: str, way: _Way, now_s: float, *, online: bool) -> None:
        content = self._content(record, way)
        if content is None:
            self._to(way, "withdrawn")
        elif now_s >= way.until_s:
            self._end(record, way, "given up")
        elif not online:
            if way.state != "offline":
                self._to(way, "offline")
        elif way.state == "offline":
            way.due_s = max(way.due_s, now_s + self._jitter(way))
            self._to(way, "waiting")
        elif now_s >= way.due_s:
            if way.state == "backing off":
                self._to(way, "waiting")
            self._try(record, way, content, now_s)

    def _try(self, record: str, way: _Way, content: bytes, now_s: float) -> None:
        try:
            self._send(content)
        except OSError:
            way.attempts += 1
            way.due_s = now_s + self._jitter(way)
            self._to(way, "backing off")
        else:
            self._end(record, way, "delivered")

    def _content(self, record: str, way: _Way) -> bytes | None:
        """The parcel's bytes; None if consent or record is gone."""
        try:
            found = self._vault.use(record, purpose=way.purpose, area=self._area)
        except (ConsentMissing, StoreRefused):
            return None
        return found.content[_HEAD.size :]

    def _end(self, record: str, way: _Way, state: State) -> None:
        self._to(way, state)
        self._vault.store.erase([record], f"a parcel was {state}")

    def _to(self, way: _Way, state: State) -> None:
        assert state in TRANSITIONS[way.state], (way.state, state)
        way.state = state

    def _jitter(self, way: _Way) -> float:
        """Seconds to wait: a random part of the window of so many attempts."""
        window_s = min(LONGEST_WINDOW_S, FIRST_WINDOW_S * 2.0 ** min(way.attempts, 20))
        return self._draw() * window_s

    def _take_up(self, purpose: Purpose) -> None:
        """Goes on with parcels that were on disk when the phone was killed."""
        now_s = self._vault.store.now()
        for entry in self._vault.usable("parcel", purpose=purpose, area=self._area):
            head = self._vault.use(entry.id, purpose=purpose, area=self._area).content
            release_s, until_s = _HEAD.unpack_from(head)
            way = _Way(purpose=purpose, due_s=release_s, until_s=until_s)
            way.due_s = max(release_s, now_s + self._jitter(way))
            self._ways[entry.id] = way
