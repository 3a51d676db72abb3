"""Augmentation varies what it says, by no more than it says."""

import math
from dataclasses import replace

import pytest
import torch

from fedspeech.audio.augment import Augmentation, augment

FLOOR = 1e-6
NOTHING = Augmentation(
    shift_frames=0,
    stretch=0,
    shift_mels=0,
    tail=0,
    level_db=(0, 0),
    response_db=0,
    noise_db=(-300, -300),
    mask_mels=0,
    mask_frames=0,
)


@pytest.fixture
def log_mel():
    torch.manual_seed(0)
    return torch.log(torch.rand(64, 49, 40) * 1e-3 + FLOOR)


def varied(log_mel, **changes):
    spec = replace(NOTHING, **changes)
    return augment(log_mel, FLOOR, spec, torch.Generator().manual_seed(1))


def test_nothing_asked_nothing_changed(log_mel):
    torch.testing.assert_close(varied(log_mel), log_mel, rtol=0, atol=1e-4)


def test_the_default_changes_every_clip_differently_and_repeats(log_mel):
    same = log_mel[:1].expand(8, -1, -1)
    a = augment(same, FLOOR, Augmentation(), torch.Generator().manual_seed(1))
    b = augment(same, FLOOR, Augmentation(), torch.Generator().manual_seed(1))
    assert torch.equal(a, b)
    assert torch.isfinite(a).all()
    assert all((a[i] - a[j]).abs().mean() > 0.1 for i in range(8) for j in range(i))


def test_gain_moves_all_energies_of_a_clip_by_one_factor_within_its_bound(log_mel):
    ratio = (torch.exp(varied(log_mel, level_db=(-6, 6))) - FLOOR) / (torch.exp(log_mel) - FLOOR)
    change_db = 10 * torch.log10(ratio)
    spread = change_db.flatten(1).std(dim=1)
    assert float(spread.median()) < 0.05
    levels = change_db.flatten(1).median(dim=1).values
    assert float(levels.abs().max()) <= 6.01
    assert float(levels.max() - levels.min()) > 8


def test_level_moves_added_noise_with_the_speech(log_mel):
    quiet, loud = (
        varied(torch.full_like(log_mel, math.log(FLOOR)), noise_db=(-30, -30), level_db=(at, at))
        for at in (-20, 0)
    )
    energies = [(torch.exp(x) - FLOOR).mean() for x in (quiet, loud)]
    assert float(10 * torch.log10(energies[0] / energies[1])) == pytest.approx(-20, abs=0.5)


def test_shift_moves_frames_and_lets_silence_in():
    log_mel = torch.full((200, 49, 40), math.log(FLOOR))
    log_mel[:, 24] = 0.0
    at = varied(log_mel, shift_frames=5).mean(dim=2).argmax(dim=1) - 24
    assert int(at.min()) == -5
    assert int(at.max()) == 5


def test_mel_shift_moves_bands():
    log_mel = torch.full((200, 49, 40), math.log(FLOOR))
    log_mel[:, :, 20] = 0.0
    at = varied(log_mel, shift_mels=2).mean(dim=1).argmax(dim=1) - 20
    assert set(at.tolist()) == {-2, -1, 0, 1, 2}


def test_a_tail_rings_on_but_never_before(log_mel):
    click = torch.full((32, 49, 40), math.log(FLOOR))
    click[:, 20] = 0.0
    rung = varied(click, tail=0.5)
    torch.testing.assert_close(rung[:, :20], click[:, :20], rtol=0, atol=1e-5)
    energy = torch.exp(rung) - FLOOR
    assert float((energy[:, 21] / energy[:, 20]).max()) <= 0.501
    assert float(energy[:, 21].mean()) > 0.1


def test_noise_has_the_level_it_was_given():
    silence = torch.full((64, 49, 40), math.log(FLOOR))
    energy = torch.exp(varied(silence, noise_db=(-30, -30))) - FLOOR
    # 125,440 exponential draws: five standard errors of their mean are 1.4 %.
    assert float(energy.mean()) == pytest.approx(1e-3, rel=0.015)


def test_masks_are_no_wider_than_allowed(log_mel):
    masked = varied(log_mel, mask_mels=8, mask_frames=6) <= math.log(FLOOR) + 1e-6
    bands = masked.all(dim=1).sum(dim=1)
    frames = masked.all(dim=2).sum(dim=1)
    assert int(bands.max()) == 8
    assert int(frames.max()) == 6
    assert int(bands.min()) == 0
