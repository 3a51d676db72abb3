"""How a parcel gets from a phone to its server: one state machine for each, over weeks and kills.

    uploader = Uploader(vault, send, area="wake_word")
    uploader.post(parcel, purpose="federated_training", until_s=end_of_round)
    uploader.tick(condition)           # whenever the phone wakes; `states` says what became of each

A parcel is on disk before it is sent first, so a kill sends the same bytes again and never a second
answer with other noise. It lies under its consent: revoking withdraws it. Retries wait a random
part of a window that doubles ("full jitter", Brooker 2015, "Exponential Backoff And Jitter"), and
whoever comes back after being offline waits one too, so that phones do not return together.

The log has a row `sending` before the network gets a parcel first and a row `left` after the server
has taken it. No row is atomic with the network, so a kill between both leaves `sending` alone: it
may have left. The uploader of the next start sends it again and writes `left`, or ends its way and
writes `kept_back`. What has neither row did not leave; what has `left` did.
"""

from __future__ import annotations

import json
import secrets
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from fedspeech.device.consent import Purpose
from fedspeech.device.egress import Parcel
from fedspeech.device.scheduler import Condition
from fedspeech.device.vault import Vault
from fedspeech.errors import ConsentMissing, StoreFull, StoreRefused
from fedspeech.hash_chain import Row

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
_HEAD = struct.Struct("<ddI")  # release, end, bytes of the row that follows


@dataclass
class _Way:
    """One parcel on its way."""

    purpose: Purpose
    due_s: float
    until_s: float
    row: Row = field(default_factory=dict)
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
        self._open, arrived = self._sent()
        for purpose in ("federated_training", "analytics"):
            self._take_up(purpose, arrived)
        for record in self._open - self._ways.keys():  # sent perhaps, and revoked or expired since
            self._kept_back(record, "withdrawn")

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
        row = json.dumps(parcel.row).encode()
        content = _HEAD.pack(parcel.release_s, until_s, len(row)) + row + parcel.content
        record = self._vault.keep("parcel", content, purpose=purpose, area=self._area)
        way = _Way(purpose=purpose, due_s=parcel.release_s, until_s=until_s, row=parcel.row)
        self._ways[record] = way
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
            self._end(record, way, "withdrawn")
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
            if record not in self._open:
                self._log("sending", record, **way.row)
                self._open.add(record)
            self._send(content)
            self._log("left", record, **way.row)
        except (OSError, StoreFull):
            # Also where the row has no room: what is not in the log does not count as sent, and
            # the server takes the same bytes twice for once.
            way.attempts += 1
            way.due_s = now_s + self._jitter(way)
            self._to(way, "backing off")
        else:
            self._open.remove(record)
            self._end(record, way, "delivered")

    def _content(self, record: str, way: _Way) -> bytes | None:
        """The parcel's bytes; None if consent or record is gone."""
        try:
            found = self._vault.use(record, purpose=way.purpose, area=self._area)
        except (ConsentMissing, StoreRefused):
            return None
        return _parts(found.content)[3]

    def _end(self, record: str, way: _Way, state: State) -> None:
        """Ends a way; one on which something was sent and nothing known to arrive is a row.

        A way whose row has no room ends at a later tick, and others go on meanwhile.
        """
        if record in self._open and not self._kept_back(record, state):
            return
        self._to(way, state)
        self._erase(record, state)

    def _kept_back(self, record: str, why: str) -> bool:
        """Writes that nobody knows whether a parcel arrived; False if there is no room for it."""
        for last in (False, True):
            try:
                self._log("kept_back", record, why=why)
            except StoreFull:
                if last or not self._vault.store.make_room():
                    return False
            else:
                break
        self._open.remove(record)
        return True

    def _erase(self, record: str, state: State) -> None:
        with suppress(StoreFull):  # it lives a day; the next sweep that has room takes it
            self._vault.store.erase([record], f"a parcel was {state}")

    def _to(self, way: _Way, state: State) -> None:
        assert state in TRANSITIONS[way.state], (way.state, state)
        way.state = state

    def _jitter(self, way: _Way) -> float:
        """Seconds to wait: a random part of the window of so many attempts."""
        window_s = min(LONGEST_WINDOW_S, FIRST_WINDOW_S * 2.0 ** min(way.attempts, 20))
        return self._draw() * window_s

    def _log(self, kind: str, record: str, **fields: object) -> None:
        self._vault.store.log.add(kind, parcel=record, **fields)

    def _sent(self) -> tuple[set[str], set[str]]:
        """Parcels of which the log does not say what became, and those that the server has."""
        unknown: set[str] = set()
        arrived: set[str] = set()
        for row in self._vault.store.log.rows:
            if row["kind"] == "sending":
                unknown.add(row["parcel"])
            elif row["kind"] in ("left", "kept_back"):
                unknown.discard(row["parcel"])
            if row["kind"] == "left":
                arrived.add(row["parcel"])
        return unknown, arrived

    def _take_up(self, purpose: Purpose, arrived: set[str]) -> None:
        """Goes on with parcels that were on disk when the phone was killed."""
        now_s = self._vault.store.now()
        for entry in self._vault.usable("parcel", purpose=purpose, area=self._area):
            if entry.id in arrived:  # killed between its row and its removal
                self._erase(entry.id, "delivered")
                continue
            head = self._vault.use(entry.id, purpose=purpose, area=self._area).content
            release_s, until_s, row, _ = _parts(head)
            way = _Way(purpose=purpose, due_s=release_s, until_s=until_s, row=row)
            way.due_s = max(release_s, now_s + self._jitter(way))
            self._ways[entry.id] = way


def _parts(content: bytes) -> tuple[float, float, Row, bytes]:
    """Release, end, row and bytes of a parcel's record."""
    release_s, until_s, length = _HEAD.unpack_from(content)
    end = _HEAD.size + length
    return release_s, until_s, json.loads(content[_HEAD.size : end]), content[end:]
