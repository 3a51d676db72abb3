import numpy as np
import pytest

from fedspeech.corpora.corpus import Alphabet, NamedLabels, Vocabulary, labels_from


@pytest.mark.parametrize(
    "labels", [Vocabulary(("go",)), Alphabet((" ", "a")), NamedLabels(("low", "high"))]
)
def test_labels_are_read_back_as_they_were_written(labels):
    assert labels_from(labels.to_metadata()) == labels


def test_named_labels_know_no_others():
    named = NamedLabels(("low", "high"))
    assert np.array_equal(named.encode(["high", "low", "high"]), [1, 0, 1])
    with pytest.raises(ValueError, match="one of low, high, got 'middle'"):
        named.encode(["low", "middle"])
    with pytest.raises(ValueError, match="at least 2 distinct"):
        NamedLabels(("low", "low"))


def test_one_target_word_is_a_vocabulary():
    wake = Vocabulary(("computer",))
    assert wake.labels == ("computer", "_unknown_", "_silence_")
    assert np.array_equal(wake.encode(["computer", "other", "_silence_"]), [0, 1, 2])
    with pytest.raises(ValueError, match="1 to 40 distinct target words"):
        Vocabulary(())
