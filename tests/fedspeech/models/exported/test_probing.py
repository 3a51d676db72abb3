"""An encoder that would make cached outputs wrong is told apart, with the value measured."""

import itertools

import numpy as np
import pytest
import torch

from fedspeech.models.exported.probing import probe

HOP, FRAMES = 160, 12


class Encoder:
    """Energies of hops, as `answer` changes them."""

    context_samples, clip_samples, hop_samples = 320, HOP * (FRAMES - 2), HOP

    def __init__(self, answer=lambda frames: frames):
        self.answer = answer

    def __call__(self, heard):
        hops = torch.from_numpy(np.ascontiguousarray(heard)).reshape(len(heard), FRAMES, HOP)
        return self.answer(torch.stack([hops.square().mean(2), hops.abs().mean(2)], dim=2))


def test_frames_of_their_own_hop_stream():
    found = probe(Encoder())
    assert (found.num_windows, found.num_features) == (FRAMES, 2)
    assert found.heard_late == 1
    assert found.shift_difference == 0
    assert found.streams
    assert found.in_words() == "streams: 12 frames, of which the last hop changes 1"


def test_an_encoder_that_looks_at_the_whole_clip_works_and_says_so():
    found = probe(Encoder(lambda frames: frames + frames.mean(dim=1, keepdim=True)))
    assert not found.streams
    assert "as a whole (its last hop changes every frame)" in found.in_words()


def test_frames_that_depend_on_their_place_do_not_stream():
    place = torch.arange(FRAMES)[None, :, None]
    found = probe(Encoder(lambda frames: frames * (1 + place)))
    assert not found.streams
    assert "a shift by one hop changes frames by" in found.in_words()


def test_one_vector_is_one_frame_that_hears_everything():
    found = probe(Encoder(lambda frames: frames.mean(dim=1, keepdim=True)))
    assert found.num_windows == 1
    assert not found.streams


calls = itertools.count()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda frames: frames.log(), "finite values, on silence 24 of 24 are NaN or infinite"),
        (lambda frames: frames / (frames.amax() < 0.9), "finite values, on full scale"),
        (lambda frames: frames + next(calls), "two answers differ by"),
        (lambda frames: frames + 0.1 * torch.rand_like(frames), "two answers differ by"),
        (lambda frames: frames - frames.mean(dim=0), "hear something"),
        (lambda frames: frames * (2 - (len(frames) == 1)), "when other clips stand beside it"),
        (lambda frames: frames[:1].clone(), "7 clips gave"),
        (lambda frames: frames[:, :0], "at least one value"),
        (torch.ones_like, "hear something"),
    ],
)
def test_what_an_encoder_does_not_keep_is_said_in_words(answer, said):
    with pytest.raises(ValueError, match=said):
        probe(Encoder(answer))


def test_the_difference_of_a_batch_is_measured():
    wrong = Encoder(lambda frames: frames * (1 + 0.01 * (len(frames) > 1)))
    with pytest.raises(ValueError, match=r"differ by 0\.01 of the largest output"):
        probe(wrong)
