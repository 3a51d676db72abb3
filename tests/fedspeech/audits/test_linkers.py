"""Linkers against a density, what they must not look at, and what they find and do not find."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fedspeech.audits.linkers import CosineLinker, Directions, GaussianLinker, _likelihood_ratios
from fedspeech.audits.network_linker import NetworkLinker
from fedspeech.evaluation.voice_privacy.linking import Trials, linking_metrics

LINKERS = (CosineLinker(), GaussianLinker(), NetworkLinker(steps=60))
F = 12


def speakers(rng, count, spread=1.0):
    """Two updates of each speaker: a common push, a voice in half of the directions, clips."""
    push, voice = 5 * np.ones(F), spread * rng.normal(size=(count, F)) * (np.arange(F) < F / 2)
    return tuple(push + voice + 0.4 * rng.normal(size=(count, F)) for _ in range(2))


def test_ratios_are_those_of_the_densities():
    spread, rng = np.array([0.0, 0.7, 3.0]), np.random.default_rng(1)
    probes, enrolled = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    found = _likelihood_ratios(probes, enrolled, spread)
    between, alone = np.diag(spread), np.diag(1 + spread)
    same = multivariate_normal(np.zeros(6), np.block([[alone, between], [between, alone]]))
    for i, probe in enumerate(probes):
        for j, other in enumerate(enrolled):
            two = multivariate_normal(np.zeros(3), alone)
            expected = same.logpdf([*probe, *other]) - two.logpdf(probe) - two.logpdf(other)
            assert found[i, j] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("linker", LINKERS, ids=lambda linker: linker.name)
def test_it_links_speakers_whom_it_never_saw_and_no_chance(linker):
    """Of 24 speakers without a voice, error rates deviate by 0.053 (measured): four of them."""
    rng = np.random.default_rng(4)
    link = linker.fit(*speakers(rng, 60), rng)
    truth = np.eye(24, dtype=bool)
    eer, first, *_ = linking_metrics(Trials(link(*speakers(rng, 24)), truth), rng)
    assert eer.value < 0.2
    assert first.interval.low > 3 * first.by_chance
    nobody = linking_metrics(Trials(link(*speakers(rng, 24, spread=0.0)), truth), rng)[0]
    assert abs(nobody.value - 0.5) < 4 * 0.053


@pytest.mark.parametrize("linker", LINKERS, ids=lambda linker: linker.name)
def test_neither_length_nor_the_common_push_matters(linker):
    """Otherwise whoever trained for longer would be linked, and a clip would be a defence."""
    rng = np.random.default_rng(5)
    one, other = speakers(rng, 20)
    common = Directions.of(one, other).common
    link = linker.fit(one, other, rng)
    longer = 7 * (one + np.outer(np.arange(20.0), common))
    np.testing.assert_allclose(link(longer, other), link(one, other), atol=1e-4)


def test_the_same_stream_trains_the_same_network():
    one, other = speakers(np.random.default_rng(6), 12)
    linker = NetworkLinker(steps=3)
    found = [linker.fit(one, other, np.random.default_rng(7))(one, other) for _ in range(2)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.ones((4, 3)), np.ones((3, 3))),
        (np.ones((2, 3)), np.ones((2, 3))),
        (np.full((4, 3), np.nan), np.ones((4, 3))),
    ],
)
def test_updates_that_teach_nothing_are_refused(one, other):
    with pytest.raises(ValueError, match=r"two updates|at least 3|finite"):
        CosineLinker().fit(one, other, np.random.default_rng(1))
