"""What a phone keeps of stages: its secret, and the last statement that it acted on.

    stage = PhoneStage(folder)              # of `fedspeech.rollout.phone.Phone`
    advice = stage.hear(content, now_s=...) # take it, wait, or go back

It stands beside the phone's adapters and is written in one step, as they are. The secret is drawn
once, by the operating system, and is in nothing that the phone sends.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

from fedspeech.errors import UpdateRefused
from fedspeech.files import hold, write_whole
from fedspeech.rollout.bundle import MAX_HEADER_BYTES
from fedspeech.rollout.drift import ResetPolicy
from fedspeech.rollout.phone import Phone
from fedspeech.rollout.signing import SIGNATURE_BYTES
from fedspeech.rollout.stages import SECRET_BYTES, Heard, StageStatement

SECRET_FILE = "stage.secret"
HEARD_FILE = "stage.json"
_LOCK_FILE = "stage.lock"

MAX_STATEMENT_BYTES = MAX_HEADER_BYTES + SIGNATURE_BYTES + 64

Advice = Literal["take", "wait", "go back"]
"""Fetch and apply the version; keep what is there; roll back, for the version was withdrawn."""


class PhoneStage:
    """The roll-outs of one phone's model.

    Attributes:
      phone: whose folder it is.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the phone and makes its secret, if it has none.

        Raises:
          UpdateRefused: if there is no phone.
        """
        self.phone = Phone.open(folder)
        self._secret_file = folder / SECRET_FILE
        self._heard_file = folder / HEARD_FILE
        with self._alone():
            if not self._secret_file.exists():
                write_whole(self._secret_file, os.urandom(SECRET_BYTES))
                self._secret_file.chmod(0o600)

    @property
    def secret(self) -> bytes:
        """The phone's secret."""
        return self._secret_file.read_bytes()

    @property
    def heard(self) -> Heard:
        """What was heard last.

        Raises:
          UpdateRefused: if it cannot be read.
        """
        try:
            return Heard(StageStatement.from_header(self._heard_file.read_bytes()))
        except FileNotFoundError:
            return Heard()
        except ValueError as error:
            raise UpdateRefused(
                f"{self._heard_file} cannot be read ({error}): without it older stages would pass"
            ) from error

    def hear(self, content: bytes, now_s: float) -> Advice:
        """Takes a statement and says what the app is to do.

        Args:
          content: as it came.
          now_s: Unix time.

        Raises:
          UpdateRefused: if it breaks a rule of `stages.Heard`; nothing has changed then.
        """
        state = self.phone.state
        with self._alone():
            heard = self.heard.hear(content, state.trust, state.model, now_s)
            statement = heard.statement
            assert statement is not None
            write_whole(self._heard_file, statement.to_header())
        if statement.takes(self.secret):
            return "wait" if state.newest >= statement.version else "take"
        in_use = state.current.version == statement.version
        return "go back" if in_use and statement.share_ppm == 0 else "wait"

    def drops_own_adapter(self, learned_day: int, today: int) -> bool:
        """Whether the personal adapter that was learned on a day is too old, as the stages say."""
        statement = self.heard.statement
        after_days = None if statement is None else statement.reset_after_days
        return ResetPolicy(after_days).drops(learned_day, today)

    def _alone(self) -> BinaryIO:
        """Keeps other processes out."""
        held = hold(self.phone.folder / _LOCK_FILE, wait_s=10)
        if held is None:
            raise UpdateRefused(f"another process is changing {self.phone.folder}")
        return held
