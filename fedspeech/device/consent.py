"""What the user of a phone agreed to: scopes, receipts, revocation; rows of the phone's log.

    consents = Consents(store.log, store.now, ask=dialog, text=3)
    receipt = consents.request(Scope(purpose="federated_training", area="wake_word"), days=180)
    consents.require("federated_training", "wake_word")       # ConsentMissing, or the receipt

A receipt is never changed. Another purpose, area or text of the question is another question, and
nothing that came in before falls under its answer. Nothing is agreed to by default.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from fedspeech.device.phone_log import PhoneLog
from fedspeech.device.retention import DAY_S
from fedspeech.errors import ConsentMissing, require
from fedspeech.hash_chain import Row

Purpose = Literal["personalization", "federated_training", "analytics", "debug"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a question is about.

    Attributes:
      purpose: one of `PURPOSES`.
      area: part of the product, as users know it.

    Raises:
      ValueError: for another purpose, or without an area.
    """

    purpose: Purpose
    area: str

    def __post_init__(self) -> None:
        """Checks both."""
        rule = f"purpose must be one of {', '.join(PURPOSES)}"
        require(self.purpose in PURPOSES, rule, purpose=self.purpose)
        require(bool(self.area), "area must name a part of the product", area=self.area)

    def __str__(self) -> str:
        return f"{self.purpose} in {self.area}"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What one answer allows.

    Attributes:
      id: random, 16 hex digits.
      scope: that it covers.
      text: version of the question that the user read.
      from_s: first second.
      until_s: second at which it ends.
      epoch: revocations before it.
    """

    id: str
    scope: Scope
    text: int
    from_s: int
    until_s: int
    epoch: int


class Consents:
    """All answers of one phone's user.

    Attributes:
      epoch: how many consents were revoked. What was made under a smaller one may hold what its
        user has taken back. It counts one person's decisions, so it stays on the phone.
    """

    def __init__(
        self,
        log: PhoneLog,
        now: Callable[[], float],
        *,
        ask: Callable[[Scope], bool],
        text: int = 1,
    ) -> None:
        """Reads what was answered before.

        Args:
          log: of the phone.
          now: second by the phone's monotone clock.
          ask: shows the user a question; whether they agree.
          text: version of the questions; answers to earlier ones allow nothing.
        """
        self._log, self._now, self._ask, self._text = log, now, ask, text
        self._receipts: dict[str, Receipt] = {}
        self._revoked: set[str] = set()
        self.epoch = 0
        for row in log.rows:
            self._take(row)

    def request(self, scope: Scope, *, days: float) -> Receipt:
        """Asks the user, who may say no; the answer is on disk when the call returns.

        Args:
          scope: of the question.
          days: for which the answer holds.

        Raises:
          ConsentMissing: if they decline.
          ValueError: if days is not positive.
        """
        require(0 < days < 36_500, "days must be positive and below 36,500", days=days)
        answer, at_s = self._ask(scope), int(self._now())
        row = self._log.add(
            "consented" if answer else "declined",
            receipt=secrets.token_hex(8), purpose=scope.purpose, area=scope.area, text=self._text,
            from_s=at_s, until_s=int(at_s + DAY_S * days), epoch=self.epoch,
        )  # fmt: skip
        self._take(row)
        if not answer:
            raise ConsentMissing(f"the user declined {scope}")
        return self._receipts[row["receipt"]]

    def require(self, purpose: Purpose, area: str) -> Receipt:
        """The latest receipt that covers a purpose in an area now.

        Raises:
          ConsentMissing: if none does.
        """
        scope = Scope(purpose=purpose, area=area)
        for receipt in reversed(self._receipts.values()):
            if receipt.scope == scope and self.in_force(receipt.id):
                return receipt
        raise ConsentMissing(f"the user has not agreed to {scope}, or no longer does")

    def in_force(self, receipt: str) -> bool:
        """Whether a receipt was given, was not revoked, and is of today's text and within time."""
        found = self._receipts.get(receipt)
        if found is None or receipt in self._revoked or found.text != self._text:
            return False
        return found.from_s <= self._now() < found.until_s

    def covers(self, receipt: str, purpose: Purpose, area: str) -> bool:
        """Whether a receipt is in force and is of this purpose and area."""
        scope = Scope(purpose=purpose, area=area)
        return self.in_force(receipt) and self._receipts[receipt].scope == scope

    def revoke(self, receipt: str) -> Row:
        """Ends a consent, on disk when the call returns; the epoch moves.

        Raises:
          ConsentMissing: if there is no such receipt, or it was revoked before.
        """
        if receipt not in self._receipts or receipt in self._revoked:
            raise ConsentMissing(f"no consent {receipt!r} that could be revoked")
        row = self._log.add(
            "revoked", receipt=receipt, revoked_s=int(self._now()), epoch=self.epoch + 1
        )
        self._take(row)
        return row

    def receipts(self) -> list[Receipt]:
        """Those in force, oldest first."""
        return [one for one in self._receipts.values() if self.in_force(one.id)]

    def _take(self, row: Row) -> None:
        if row["kind"] == "consented":
            fields = {name: row[name] for name in ("text", "from_s", "until_s", "epoch")}
            scope = Scope(purpose=row["purpose"], area=row["area"])
            receipt = Receipt(id=row["receipt"], scope=scope, **fields)
            self._receipts[receipt.id] = receipt
        elif row["kind"] == "revoked":
            self._revoked.add(row["receipt"])
            self.epoch = row["epoch"]
