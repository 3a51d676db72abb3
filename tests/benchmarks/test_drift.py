"""Speakers of the benchmark change by themselves and by as much as it says."""

import pytest

from benchmarks.drift import _VOICE, AgedCorpus, Month, page
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec

SPEC = SyntheticSpec(
    seed=3,
    groups=(
        SpeakerGroup(
            name="held_out", num_speakers=3, words=("yes", "no"), utterances_per_word=2,
            accents=(("raised", 1.0),),
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def corpora():
    return {changed: AgedCorpus(SPEC, changed) for changed in (0.0, 0.5, 1.0)}


def test_nothing_changes_before_the_first_month(corpora):
    plain = SyntheticCorpus(SPEC)
    for clip in plain.utterances:
        assert corpora[0.0].recipe(clip) == plain.recipe(clip)


def test_in_the_end_a_voice_is_that_of_the_next_speaker_in_the_accent_of_the_base(corpora):
    plain = SyntheticCorpus(SPEC)
    first = {clip.speaker_id: clip for clip in reversed(plain.utterances)}
    names = sorted(first)
    for one, other in zip(names, [*names[1:], names[0]], strict=True):
        voice = corpora[1.0].recipe(first[one])[0].voice
        theirs = plain.recipe(first[other])[0].voice
        assert [getattr(voice, name) for name in _VOICE] == pytest.approx(
            [getattr(theirs, name) for name in _VOICE]
        )
        assert voice.accent == "plain"
        assert voice.seed == plain.recipe(first[one])[0].voice.seed


def test_half_way_some_words_have_changed_and_what_is_cached_knows(corpora):
    clips = corpora[0.5].utterances
    accents = [corpora[0.5].recipe(clip)[0].voice.accent for clip in clips]
    assert set(accents) == {"raised", "plain"}
    prints = [{corpus.fingerprint(clip) for clip in clips} for corpus in corpora.values()]
    assert len(set.union(*prints)) == 3 * len(clips)


@pytest.mark.slow
def test_the_page_has_the_curves_as_a_table():
    rows = [Month(month=m, base=80 + m, first=90 - m, reset=90, worse=5 * m) for m in (0, 12)]
    found = page({"guarded": rows}, 40)
    assert "Personal adapters over a year: guarded" in found
    assert "<td>92</td>" in found
