"""The owner's voice on a phone: enrolled, asked, deleted, and never shown.

    owner = Voiceprint.enroll(space, frames)       # a few clips of the owner
    owner.verify(frames)                           # (n,) True where the owner speaks
    owner.delete()

A voiceprint has no way out: it cannot be printed, copied, pickled, iterated or turned into an array
or bytes, it tells decisions and no scores, and the door of a phone has no serializer for it
(`egress`). At rest it is a record of kind `voiceprint` of the phone's own store, encrypted and
under consent (`keep`, `open`); nothing but a `Vault` is given its bytes. (Code in the same process
can read any memory: the type stops mistakes, the store and the door stop the rest.)
"""

from __future__ import annotations

from typing import NoReturn, SupportsIndex, final

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.consent import Purpose
from fedspeech.device.speaker_space import Frames, SpeakerSpace
from fedspeech.device.vault import Vault
from fedspeech.errors import require

FEWEST_CLIPS = 2
_PURPOSE: Purpose = "personalization"


@final
class Voiceprint:
    """One enrolled voice; deleted, it answers nothing."""

    __slots__ = ("_center", "_record", "_space")

    _space: SpeakerSpace
    _center: NDArray[np.float64] | None
    _record: str

    def __init__(self) -> None:
        """Refuses: `enroll` and `open` make voiceprints.

        Raises:
          TypeError: always.
        """
        raise TypeError("a voiceprint is made by Voiceprint.enroll or Voiceprint.open")

    @classmethod
    def enroll(cls, space: SpeakerSpace, frames: Frames) -> Voiceprint:
        """Makes a voiceprint of clips in which the owner alone speaks.

        Args:
          space: the projection that ships with the base.
          frames: log-mel, shape (n, frames, mels).

        Raises:
          ValueError: of fewer than two clips, or as `SpeakerSpace.place`.
        """
        require(len(frames) >= FEWEST_CLIPS, f"enrolling takes {FEWEST_CLIPS} clips or more",
                clips=len(frames))  # fmt: skip
        return cls._of(space, space.place(frames).mean(axis=0))

    def verify(self, frames: Frames) -> NDArray[np.bool_]:
        """Whether the owner speaks in clips (n, frames, mels), shape (n,).

        Raises:
          ValueError: if the voiceprint was deleted, or as `SpeakerSpace.place`.
        """
        center = self._present()
        cosines = self._space.place(frames) @ (center / max(float(np.linalg.norm(center)), 1e-12))
        return np.asarray(cosines >= self._space.threshold)

    def keep(self, vault: Vault, *, area: str) -> str:
        """Keeps it in the phone's store, encrypted and under consent; the record's id.

        Raises:
          TypeError: if what is given is no vault of a phone.
          ConsentMissing: if the owner has not agreed to personalization.
          ValueError: if the voiceprint was deleted.
        """
        if type(vault) is not Vault:
            raise TypeError(f"only a phone's Vault holds a voiceprint, got {type(vault).__name__}")
        content = self._present().tobytes()
        self._record = vault.keep("voiceprint", content, purpose=_PURPOSE, area=area)
        return self._record

    @classmethod
    def open(cls, space: SpeakerSpace, vault: Vault, record: str, *, area: str) -> Voiceprint:
        """Opens one that was kept.

        Raises:
          ConsentMissing: if the consent under which it came in no longer covers it.
          StoreRefused: if the record is not there.
          ValueError: if the record is none, or was enrolled in another space.
        """
        found = vault.use(record, purpose=_PURPOSE, area=area)
        size = space.directions.shape[1] * np.dtype(np.float64).itemsize
        right = found.kind == "voiceprint" and len(found.content) == size
        require(right, f"a voiceprint of this space has {size} bytes", kind=found.kind)
        opened = cls._of(space, np.frombuffer(found.content, np.float64).copy())
        opened._record = record
        return opened

    def delete(self, vault: Vault | None = None) -> None:
        """Overwrites it in memory, and erases its record in the store, with a receipt there.

        Args:
          vault: where it was kept; None: it was not.

        Raises:
          ValueError: if it was kept and no vault is given; it is gone from memory all the same.
        """
        if self._center is not None:
            self._center[:] = 0
            self._center = None
        record, self._record = self._record, ""
        require(not record or vault is not None, "it was kept: the vault is needed", record=record)
        if record and vault is not None:
            vault.store.erase([record], "voiceprint deleted")

    @classmethod
    def _of(cls, space: SpeakerSpace, center: NDArray[np.float64]) -> Voiceprint:
        made = object.__new__(cls)
        made._space, made._center, made._record = space, center, ""
        return made

    def _present(self) -> NDArray[np.float64]:
        if self._center is None:
            raise ValueError("the voiceprint was deleted")
        return self._center

    def __repr__(self) -> str:
        """Shows whether there is one, and nothing of it."""
        return f"Voiceprint({'deleted' if self._center is None else 'enrolled'})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses pickle and copy.

        Raises:
          TypeError: always.
        """
        raise TypeError("a voiceprint does not leave the phone, and is not copied")

    def __getstate__(self) -> NoReturn:
        """Refuses what serializers ask for.

        Raises:
          TypeError: always.
        """
        raise TypeError("a voiceprint has no state to give away")
