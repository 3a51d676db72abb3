"""Error rates, against counts that were made by hand."""

import numpy as np
import pytest

from fedspeech.evaluation.asr import AsrCounts
from fedspeech.evaluation.personalization import bootstrap_interval


def test_errors_are_substitutions_deletions_and_insertions():
    counts = AsrCounts.of(
        ["call arun now", "stop", "one two"], ["call a room now", "stop", "two"], ("arun", "vera")
    )
    # arun -> a room: a substitution and an insertion; one: a deletion.
    assert (counts.words, counts.word_errors) == (6, 3)
    assert counts.wer == 0.5
    assert (counts.sentences, counts.right) == (3, 1)
    assert counts.sentence_accuracy == pytest.approx(1 / 3)
    assert counts.characters == len("call arun now") + len("stop") + len("one two")
    # "arun" to "a room" inserts two characters and exchanges two; "one " is four deletions.
    assert counts.character_errors == 8
    assert (counts.names, counts.names_heard, counts.names_inserted) == (1, 0, 0)


def test_names_are_counted_as_often_as_they_are_said():
    counts = AsrCounts.of(
        ["call arun and arun", "text vera", "stop"],
        ["call arun", "text arun", "vera stop"],
        ("arun", "vera"),
    )
    assert (counts.names, counts.names_heard, counts.names_inserted) == (3, 1, 2)
    assert counts.entity_recall == pytest.approx(1 / 3)
    assert counts.false_insertion_rate == pytest.approx(2 / 3)


def test_counts_of_phones_add_up_to_those_of_all():
    said = ["one two three", "four", "five six"]
    heard = ["one three", "four five", ""]
    whole = AsrCounts.of(said, heard)
    parts = [AsrCounts.of([a], [b]) for a, b in zip(said, heard, strict=True)]
    assert sum(parts, AsrCounts()) == whole
    assert whole.wer == pytest.approx(4 / 6)


def test_nothing_counted_has_no_rate():
    empty = AsrCounts.of([], [])
    assert empty == AsrCounts()
    rates = (empty.wer, empty.sentence_accuracy, empty.entity_recall)
    assert set(rates) == {None}
    assert empty.false_insertion_rate is None


@pytest.mark.parametrize(("said", "heard"), [(["secret"], []), ([""], ["secret"])])
def test_what_cannot_be_compared_is_refused_without_showing_it(said, heard):
    with pytest.raises(ValueError, match="expected one recognized text per sentence") as caught:
        AsrCounts.of(said, heard)
    assert "secret" not in str(caught.value)


def test_the_interval_of_a_rate_covers_it_and_shrinks_with_phones():
    rng = np.random.default_rng(1)
    widths = []
    for phones in (20, 500):
        totals = rng.integers(30, 60, phones)
        errors = rng.binomial(totals, 0.2)
        low, high = bootstrap_interval(errors, np.random.default_rng(2), over=totals)
        assert low < errors.sum() / totals.sum() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    with pytest.raises(ValueError, match="something counted"):
        bootstrap_interval(np.zeros(2), rng, over=np.zeros(2, np.int64))
