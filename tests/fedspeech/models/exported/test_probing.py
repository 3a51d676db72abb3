"""An encoder that would make cached outputs wrong is told apart, with the value measured."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.models.base import Base
from fedspeech.models.exported import encoder
from fedspeech.models.exported.encoder import Declared, ForeignEncoder, verdicts
from fedspeech.models.exported.folder import assembled
from fedspeech.models.exported.probing import Findings, probe
from fedspeech.training import encoder_cache

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


FOUND = Findings(
    num_windows=3, num_features=2, batch_difference=0.0, heard_late=1, shift_difference=0.0
)


@pytest.fixture
def tried(monkeypatch):
    """Contents that were probed, in a process that has probed nothing yet."""
    found = []
    monkeypatch.setattr(encoder, "_VERDICTS", {})
    monkeypatch.setattr(encoder, "probe", lambda one: found.append(one.content) or FOUND)
    return found


def foreign(content, **declared):
    return ForeignEncoder(content=content, declared=Declared(file="pt2", **declared))


def test_a_process_probes_once_what_is_the_same_and_again_what_is_not(tried, monkeypatch):
    for content in (b"one", b"one", b"two", b"one"):
        assert foreign(content).num_windows == 3
    foreign(b"one", hop_samples=160)
    assert tried == [b"one", b"two", b"one"]
    monkeypatch.setattr(encoder, "compute_device", lambda: torch.device("cuda"))
    foreign(b"one")
    assert tried[3:] == [b"one"]


def test_what_was_refused_is_refused_again(tried, monkeypatch):
    def refuse(_):
        raise ValueError("no encoder")

    monkeypatch.setattr(encoder, "probe", refuse)
    for _ in range(2):
        with pytest.raises(ValueError, match="no encoder"):
            foreign(b"one")
    assert not verdicts()


def test_a_worker_takes_over_what_its_parent_found_and_probes_the_rest(tried, monkeypatch):
    monkeypatch.setattr(encoder_cache, "_worker", None, raising=False)
    parts = {"vocabulary": Vocabulary(("yes",)), "license": "MIT", "speakers": (), "provenance": {}}
    data = Base.of_parts(assembled(encoder=foreign(b"one"), **parts)).to_bytes()
    found, store = verdicts(), SimpleNamespace(open=lambda: None)
    for known, passes in ((found, 0), ({}, 1)):
        monkeypatch.setattr(encoder, "_VERDICTS", {})
        tried.clear()
        encoder_cache._start_worker(data, known, None, None, store)
        assert len(tried) == passes
