"""The attacks of an audit, in the order of its tables: whoever writes another lists it here."""

from __future__ import annotations

from collections.abc import Iterable

from fedspeech.audits.attack import Attack
from fedspeech.audits.attributes import TRAIT_ATTACKS
from fedspeech.audits.inversion import INVERSION
from fedspeech.audits.membership import MEMBERSHIP
from fedspeech.audits.speaker_reidentification import EVALUATION, REIDENTIFICATION, UPDATE_LINKING
from fedspeech.errors import ArgumentRefused

ATTACKS: tuple[Attack, ...] = (
    *REIDENTIFICATION, *UPDATE_LINKING, *EVALUATION, *MEMBERSHIP, *INVERSION, *TRAIT_ATTACKS,
)  # fmt: skip
CANARIES = "canaries"


def key_of(attack: Attack) -> str:
    """What files and options call an attack, such as "speaker:weight-cosine"."""
    name = "".join(letter if letter.isalnum() else "-" for letter in attack.name)
    return f"{attack.secret}:{name}".replace("--", "-")


def chosen(names: Iterable[str] | None) -> tuple[tuple[Attack, ...], bool]:
    """The attacks of these names or secrets, and whether canaries are among them; None: all.

    Raises:
      ArgumentRefused: if a name is none.
    """
    if names is None:
        return ATTACKS, True
    wanted = list(names)
    known = {key_of(attack) for attack in ATTACKS} | {attack.secret for attack in ATTACKS}
    for name in wanted:
        if name not in known | {CANARIES}:
            secrets = ", ".join([CANARIES, *dict.fromkeys(attack.secret for attack in ATTACKS)])
            raise ArgumentRefused(
                f"`attacks` must name secrets ({secrets}) or single attacks such as "
                f"{key_of(ATTACKS[0])}, got {name!r}"
            )
    found = tuple(
        attack for attack in ATTACKS if attack.secret in wanted or key_of(attack) in wanted
    )
    return found, CANARIES in wanted
