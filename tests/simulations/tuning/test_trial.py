"""When a trial is not worth its remaining rounds."""

from simulations.tuning.trial import Hopeless, marks


def test_a_trial_is_judged_at_quarters_and_at_its_end():
    assert marks(8) == (2, 4, 6, 8)
    assert marks(1) == (1,)
    assert marks(3) == (1, 2, 3)


def test_hopeless_is_below_the_base_or_below_peers_at_half_time_and_not_before():
    alone = Hopeless(base=0.8, rounds=8)
    assert not alone({2: 0.1})
    assert alone({2: 0.8, 4: 0.74})
    assert not alone({2: 0.8, 4: 0.76})
    peers = tuple({4: accuracy, 8: accuracy} for accuracy in (0.80, 0.82, 0.84, 0.86))
    among = Hopeless(base=0.7, rounds=8, peers=peers)
    assert among({4: 0.79})
    assert not among({4: 0.83})
    assert not Hopeless(base=0.7, rounds=8, peers=peers[:3])({4: 0.79})
