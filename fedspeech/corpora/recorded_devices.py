"""Phones as they were recorded: one for each device that a corpus names.

    partition = with_recorded_devices(partition, corpus.devices, seed=1)

A device that several speakers used is one phone of several people; a speaker with several devices
has several phones, of which none covers the person. Whoever shares a device, directly or by others,
is in one group: if one of them is held-out, all are, since nobody may be judged on a phone whose
other user trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedspeech.corpora.corpus import Skipped, Utterance
from fedspeech.corpora.partition import (
    MIN_CLIPS,
    Partition,
    Phone,
    in_order,
    joined_notes,
    pseudonym,
)
from fedspeech.errors import CorpusError

_STRICTEST = ("held_out", "federated", "validation")  # wins where users of one device differ


def with_recorded_devices(
    partition: Partition, devices: Mapping[str, str], *, seed: int, min_clips: int = MIN_CLIPS
) -> Partition:
    """Makes each recorded device a phone; public speakers stay as they are.

    Args:
      partition: with a phone for each speaker.
      devices: utterance id to device; a clip without one is on a device of its speaker's own.
      seed: of the pseudonyms.
      min_clips: a device with fewer is left out.

    Raises:
      CorpusError: if no clip names a device, or nobody is left to federate or to be held-out.
    """
    if not devices:
        raise CorpusError(
            "phones by device need a column `device` in the corpus's table; no clip names one"
        )
    clips: dict[str, list[Utterance]] = {}
    group_of: dict[str, str] = {}
    segments: dict[str, Mapping[str, str]] = {}
    for group in _STRICTEST:
        for phone in getattr(partition, group):
            group_of[phone.speaker_id] = group
            segments[phone.speaker_id] = phone.segments
            for clip in phone.utterances:
                device = devices.get(clip.utterance_id, f"speaker {phone.speaker_id}")
                clips.setdefault(device, []).append(clip)
    users = {device: {clip.speaker_id for clip in said} for device, said in clips.items()}
    _settle(users, group_of)
    phones: dict[str, list[Phone]] = {group: [] for group in _STRICTEST}
    left_out = []
    for device, said in clips.items():
        people = users[device]
        if len(said) < min_clips:
            reason = f"too few clips: {len(said)}, at least {min_clips}"
            left_out.append(Skipped("a device of a speaker", reason))
            continue
        name = pseudonym(seed, f"device {device}", 0)
        alone = next(iter(people)) if len(people) == 1 else name
        shared = set.intersection(*(set(segments[person].items()) for person in people))
        group = group_of[next(iter(people))]
        phones[group].append(Phone(name, alone, dict(sorted(shared)), tuple(said)))
    if not phones["federated"] or not phones["held_out"]:
        raise CorpusError(
            "speakers who share devices are in one group, and nobody is left to federate or to be "
            "held out: the devices join nearly all speakers"
        )
    several = sum(len(people) > 1 for people in users.values())
    return replace(
        partition,
        **{group: in_order(found) for group, found in phones.items()},
        unit="phone",
        unit_note=joined_notes(
            partition.unit_note,
            f"a phone is one of {len(clips)} recorded devices, {several} of which several "
            "speakers share: the privacy unit is one device, and a person with several of them is "
            "protected by as many times the epsilon",
        ),
        skipped=(*partition.skipped, *left_out),
    )


def _settle(users: Mapping[str, set[str]], group_of: dict[str, str]) -> None:
    """Puts everybody who shares a device with somebody into the strictest group among them."""
    changed = True
    while changed:
        changed = False
        for people in users.values():
            strictest = min((group_of[person] for person in people), key=_STRICTEST.index)
            for person in people:
                if group_of[person] != strictest:
                    group_of[person], changed = strictest, True
