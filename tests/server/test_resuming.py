"""Correlated noise of the operating system: its secret is kept for the run, or nothing goes on."""

import numpy as np
import pytest
from tiny_job import make_job

from fedspeech.errors import FedspeechError
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import correlated_noise
from server.resuming import SECRET, _noise

CORRELATED = {
    "mechanism": "matrix_factorization", "participation": "round_robin", "rounds": 3,
    "factorization": Factorization(min_separation=2, bands=2),
}  # fmt: skip


def begun(folder, **changes):
    """A job that was charged for nothing yet, and its ledger."""
    _, job, _ = make_job(folder, **{"noise_entropy": "os", **CORRELATED, **changes})
    return job, Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)


@pytest.mark.slow
def test_a_secret_is_made_before_the_first_round_for_its_user_alone_and_kept(tmp_path):
    job, ledger = begun(tmp_path)
    first, again = _noise(job, tmp_path, ledger), _noise(job, tmp_path, ledger)
    assert (tmp_path / SECRET).stat().st_mode & 0o77 == 0
    assert first.commitment == again.commitment
    np.testing.assert_array_equal(first.row(1), again.row(1))
    ledger.charge(0, 0, bytes(16), first.commitment)
    assert _noise(job, tmp_path, ledger).commitment == first.commitment


def test_without_the_secret_that_was_drawn_from_nothing_goes_on(tmp_path):
    job, ledger = begun(tmp_path)
    ledger.charge(0, 0, bytes(16), _noise(job, tmp_path, ledger).commitment)
    (tmp_path / SECRET).write_bytes(bytes(32))
    with pytest.raises(FedspeechError, match="is not the secret that this run drew its noise from"):
        _noise(job, tmp_path, ledger)
    (tmp_path / SECRET).unlink()
    with pytest.raises(FedspeechError, match="is gone, from which this run drew its noise"):
        _noise(job, tmp_path, ledger)
    assert not (tmp_path / SECRET).exists()


def test_seeded_noise_needs_no_secret_and_comes_again(tmp_path):
    job, ledger = begun(tmp_path, noise_entropy="seeded")
    assert _noise(job, tmp_path, ledger) is None
    assert not (tmp_path / SECRET).exists()
    one, again = correlated_noise(job), correlated_noise(job)
    np.testing.assert_array_equal(one.row(2), again.row(2))
    _, other, _ = make_job(tmp_path, **CORRELATED, noise_multiplier=1.5)
    assert correlated_noise(other).commitment != one.commitment
