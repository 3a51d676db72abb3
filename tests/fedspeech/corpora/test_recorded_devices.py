from dataclasses import replace

import pytest

from fedspeech.corpora.partition import AllBut, Named, by_speaker
from fedspeech.corpora.recorded_devices import with_recorded_devices
from fedspeech.errors import CorpusError


def divided(small_corpus, said, held_out, segments=None):
    corpus = small_corpus({name: ["yes"] * count for name, count in said.items()}, segments)
    return corpus, by_speaker(corpus, seed=0, held_out=held_out)


def on(corpus, plan):
    """Devices by speaker: the number of clips on each."""
    devices = {}
    for speaker, counts in plan.items():
        clips = iter(clip for clip in corpus.utterances if clip.speaker_id == speaker)
        for device, count in counts.items():
            devices |= {next(clips).utterance_id: device for _ in range(count)}
    return devices


def people(phones):
    return sorted(sorted(phone.people) for phone in phones)


def test_a_device_is_a_phone_whoever_speaks_into_it(small_corpus):
    segments = {"anna": {"accent": "north", "age": "30"}, "ben": {"accent": "north", "age": "9"}}
    corpus, before = divided(
        small_corpus, {"anna": 6, "ben": 4, "cleo": 4}, Named({"cleo"}), segments
    )
    devices = on(corpus, {"anna": {"tablet": 3, "phone": 3}, "ben": {"tablet": 4}})
    after = with_recorded_devices(before, devices, seed=0)
    assert people(after.federated) == [["anna"], ["anna", "ben"]]
    assert people(after.held_out) == [["cleo"]]
    shared = next(phone for phone in after.federated if len(phone.people) == 2)
    assert len(shared.utterances) == 7
    assert shared.segments == {"accent": "north"}
    assert after.unit == "phone"
    assert "3 recorded devices, 1 of which several speakers share" in after.unit_note


def test_whoever_shares_a_device_with_a_held_out_speaker_never_trains(small_corpus):
    """Also by others: anna shares with ben, ben with cleo, who is held out."""
    corpus, before = divided(
        small_corpus, dict.fromkeys(("anna", "ben", "cleo", "dora"), 4), Named({"cleo"})
    )
    devices = on(
        corpus,
        {"anna": {"a": 2, "b": 2}, "ben": {"b": 2, "c": 2}, "cleo": {"c": 4}, "dora": {"d": 4}},
    )
    after = with_recorded_devices(before, devices, seed=0)
    assert people(after.federated) == [["dora"]]
    assert {person for phone in after.held_out for person in phone.people} == {
        "anna", "ben", "cleo",
    }  # fmt: skip


def test_devices_that_join_everybody_or_are_not_named_are_refused(small_corpus):
    corpus, before = divided(small_corpus, dict.fromkeys("abcd", 4), AllBut(2))
    with pytest.raises(CorpusError, match="nobody is left to federate or to be held out"):
        with_recorded_devices(before, {c.utterance_id: "kiosk" for c in corpus.utterances}, seed=0)
    with pytest.raises(CorpusError, match="need a column `device`"):
        with_recorded_devices(before, {}, seed=0)


def test_a_device_with_one_clip_is_left_out_and_named(small_corpus):
    corpus, before = divided(small_corpus, {"anna": 5, "ben": 4}, Named({"ben"}))
    after = with_recorded_devices(before, on(corpus, {"anna": {"a": 4, "b": 1}}), seed=0)
    assert len(after.federated) == 1
    assert [skip.reason for skip in after.skipped] == ["too few clips: 1, at least 2"]


def test_an_earlier_note_about_the_unit_stays(small_corpus):
    corpus, before = divided(small_corpus, {"anna": 4, "ben": 4}, Named({"ben"}))
    noted = replace(before, unit="phone", unit_note="ids are no people")
    after = with_recorded_devices(noted, on(corpus, {"anna": {"a": 4}}), seed=0)
    assert after.unit_note.startswith("ids are no people; a phone is one of")
