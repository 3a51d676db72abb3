import pytest

from fedspeech.corpora.corpus import SILENCE, Utterance
from fedspeech.corpora.partition import Phone
from fedspeech.corpora.shots import split_shots

TARGETS = ("yes", "no", "up")


@pytest.fixture
def phone():
    counts = {"yes": 5, "no": 5, "up": 2, "tree": 3, SILENCE: 2}
    clips = [
        Utterance(f"{word}/{take}", "anna", word)
        for word, count in counts.items()
        for take in range(count)
    ]
    return Phone("phone-0", "anna", {}, tuple(clips))


def words(clips):
    found = {}
    for clip in clips:
        found[clip.word] = found.get(clip.word, 0) + 1
    return found


def test_own_takes_and_judged_clips_share_nothing_and_miss_nothing(phone):
    takes = split_shots(phone, TARGETS, 2, seed=0)
    assert words(takes.own) == {"yes": 2, "no": 2, "up": 1}
    assert words(takes.judged) == {"yes": 3, "no": 3, "up": 1, "tree": 3, SILENCE: 2}
    assert not set(takes.own) & set(takes.judged)
    assert set(takes.own) | set(takes.judged) == set(phone.utterances)


def test_with_a_reserve_more_takes_contain_fewer_and_are_judged_alike(phone):
    none, one, two, three = (split_shots(phone, TARGETS, k, seed=0, reserve=3) for k in range(4))
    assert none.own == ()
    assert set(one.own) < set(two.own) < set(three.own)
    assert none.judged == one.judged == two.judged == three.judged
    assert words(one.judged)["yes"] == 2
    assert not set(three.own) & set(three.judged)


def test_the_split_follows_seed_and_phone_and_not_the_order_of_clips(phone):
    first = split_shots(phone, TARGETS, 2, seed=0)
    assert split_shots(phone, TARGETS[::-1], 2, seed=0) == first
    turned = Phone("phone-0", "anna", {}, phone.utterances[::-1])
    assert set(split_shots(turned, TARGETS, 2, seed=0).own) == set(first.own)
    own = {split_shots(phone, TARGETS, 2, seed=seed).own for seed in range(9)}
    others = {
        split_shots(Phone(f"phone-{n}", "anna", {}, phone.utterances), TARGETS, 2, seed=0).own
        for n in range(9)
    }
    assert len(own) > 4
    assert len(others) > 4


def test_impossible_numbers_are_refused(phone):
    with pytest.raises(ValueError, match="utterances_per_word=-1"):
        split_shots(phone, TARGETS, -1, seed=0)
    with pytest.raises(ValueError, match="reserve=1"):
        split_shots(phone, TARGETS, 2, seed=0, reserve=1)
