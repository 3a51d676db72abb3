"""A transcript holds what its observer saw, and refuses more."""

import numpy as np
import pytest

from fedspeech.audits.attack import Guess
from fedspeech.audits.transcript import OBSERVERS, SeenMessage, SeenRound, Transcript

D = 4
NOBODY = np.zeros(0, dtype=np.int64)
RELEASES = np.array([[0, 0, 0, 0], [1, 0, 2, 0], [1, 1, 2, 0]], dtype=np.float32)
SINGLES = np.arange(8, dtype=np.float64).reshape(2, D)
HELD = {
    "singles": SINGLES, "total": np.ones(D), "own": np.ones(D),
    "senders": np.array([3, 5]),
}  # fmt: skip
SEES = {
    "server": {"singles", "total", "senders"}, "cohort_member": {"own", "senders"},
    "recipient": {"singles"}, "reader": set(), "network": set(),
}  # fmt: skip


def seen(number=0, **held):
    return SeenRound(number=number, sent=RELEASES[number], **{"senders": NOBODY, **held})


def of(observer, *rounds, releases=RELEASES, **more):
    return Transcript(observer=observer, plan=None, releases=releases, rounds=rounds, **more)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("name", HELD)
def test_it_refuses_what_its_observer_does_not_see(observer, name):
    rounds = (seen(**{name: HELD[name]}),)
    releases = RELEASES[:0] if observer == "network" else RELEASES
    if name in SEES[observer]:
        of(observer, *rounds, releases=releases)
    else:
        with pytest.raises(ValueError, match=r"does not see|sizes and times only"):
            of(observer, *rounds, releases=releases)


def test_the_network_sees_no_model_and_a_reader_no_message():
    message = SeenMessage(time_s=0.0, sender="server", receiver="2", kind="x", size_bytes=9)
    assert of("network", releases=RELEASES[:0], messages=(message,)).messages == (message,)
    with pytest.raises(ValueError, match="sizes and times only"):
        of("network", messages=(message,))
    with pytest.raises(ValueError, match="sees no messages"):
        of("reader", messages=(message,))


def test_observations_are_the_finest_that_the_observer_has():
    singles = of(
        "server", seen(singles=SINGLES, senders=np.array([3, 5]), total=SINGLES.sum(0)),
        seen(1, singles=SINGLES[:1], senders=np.array([7]), total=SINGLES[0]),
    )  # fmt: skip
    np.testing.assert_array_equal(singles.observations, SINGLES[[0, 1, 0]])
    assert singles.observed_in.tolist() == [0, 0, 1]
    assert singles.senders.tolist() == [3, 5, 7]
    sums = of("server", seen(total=np.ones(D)), seen(1, total=np.zeros(D)))
    np.testing.assert_array_equal(sums.observations, [np.ones(D), np.zeros(D)])
    assert sums.observed_in.tolist() == [0, 1]
    reader = of("reader", seen(), seen(1))
    np.testing.assert_array_equal(reader.observations, [[1, 0, 2, 0], [0, 1, 0, 0]])
    assert reader.senders.tolist() == [-1, -1]


def test_printing_shows_sizes_only():
    assert repr(of("server", seen(total=np.full(D, 0.125)))) == (
        "Transcript('server', rounds=1, observations=1, messages=0)"
    )


@pytest.mark.parametrize("scores", [np.zeros(3), np.array([[np.nan]])])
def test_a_guess_is_a_finite_matrix(scores):
    with pytest.raises(ValueError, match="finite matrix"):
        Guess(scores=scores)
