"""The cache gives the encoder's own outputs, repeats its bits, and notices damage."""

import dataclasses
import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Utterance, Vocabulary
from fedspeech.models.base import Base
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder
from fedspeech.training import encoder_cache
from fedspeech.training.encoder_cache import encoder_outputs

CLIP = 1_600


@dataclass
class Tones:
    """A corpus of short tones that counts what it was asked for."""

    loudness: float = 0.1
    asked: list[int] = field(default_factory=list)
    stop_after: int | None = None

    def fingerprint(self, utterance: Utterance) -> str:
        return hashlib.sha256(f"{utterance.utterance_id} {self.loudness}".encode()).hexdigest()

    def waveforms(self, utterances):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(len(utterances))
        numbers = np.array([int(u.utterance_id) for u in utterances])
        t = np.arange(CLIP) / 16_000
        tones = np.sin(2 * np.pi * (200 + 5 * numbers[:, None]) * t)
        return (self.loudness * tones).astype(np.float32)


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return Base(
        encoder=BuiltInEncoder(
            network=KwsEncoder(
                EncoderSpec(num_mels=20, stem_channels=4, channels=(8,), strides=(2,), features=6)
            ),
            frontend=FrontendSpec(num_mels=20, clip_samples=CLIP),
            feature_mean=np.full(20, -9, np.float32),
            feature_std=np.full(20, 2, np.float32),
        ),
        vocabulary=Vocabulary(("yes", "no")),
        head_weight=np.zeros((4, 6), np.float32),
        head_bias=np.zeros(4, np.float32),
        provenance={},
    )


def clips(count: int) -> list[Utterance]:
    return [Utterance(str(i), f"s{i % 3}", "yes") for i in range(count)]


def test_outputs_are_those_of_the_encoder(base, tmp_path):
    utterances = clips(700)
    outputs = encoder_outputs(base, Tones(), utterances, tmp_path)
    assert outputs.shape == (700, 2, 6)
    assert outputs.dtype == np.float32
    expected = base.encoder_output(base.heard(Tones(), utterances)).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_a_second_run_asks_for_no_waveform(base, tmp_path):
    first = encoder_outputs(base, Tones(), clips(700), tmp_path)
    again, corpus = [], Tones()
    second = encoder_outputs(
        base, corpus, clips(700), tmp_path, progress=lambda *done: again.append(done)
    )
    assert corpus.asked == again == []
    np.testing.assert_array_equal(first, second)


def test_content_and_base_name_the_cache(base, tmp_path):
    first = np.array(encoder_outputs(base, Tones(), clips(5), tmp_path))
    louder = encoder_outputs(base, Tones(loudness=0.5), clips(5), tmp_path)
    assert not np.allclose(first, louder)
    reordered = encoder_outputs(base, Tones(), clips(5)[::-1], tmp_path)
    np.testing.assert_allclose(reordered[::-1], first, rtol=1e-5, atol=1e-5)
    mean = base.built_in.feature_mean + 1
    shifted = dataclasses.replace(
        base, encoder=dataclasses.replace(base.built_in, feature_mean=mean)
    )
    assert not np.allclose(first, encoder_outputs(shifted, Tones(), clips(5), tmp_path))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(base, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        encoder_outputs(base, Tones(stop_after=2), clips(1_700), tmp_path)
    corpus, seen = Tones(), []
    resumed = encoder_outputs(
        base, corpus, clips(1_700), tmp_path, progress=lambda done, total: seen.append(done)
    )
    assert corpus.asked == [512, 164]
    assert seen == [1_536, 1_700]
    whole = encoder_outputs(base, Tones(), clips(1_700), tmp_path / "elsewhere")
    np.testing.assert_array_equal(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["values", "log", "length"])
def test_damage_is_noticed_and_repaired(base, tmp_path, damage):
    expected = np.array(encoder_outputs(base, Tones(), clips(1_100), tmp_path))
    (array,) = tmp_path.rglob("outputs.f32")
    (log,) = tmp_path.rglob("chunks.jsonl")
    if damage == "values":
        data = bytearray(array.read_bytes())
        data[600 * 2 * 6 * 4] ^= 1  # one bit of the second chunk
        array.write_bytes(data)
    elif damage == "log":
        log.write_text(log.read_text()[:-20] + "\x00torn")
    else:
        array.write_bytes(array.read_bytes()[:-4])
    corpus = Tones()
    repaired = encoder_outputs(base, corpus, clips(1_100), tmp_path)
    assert corpus.asked == ([512] if damage == "values" else [76])
    np.testing.assert_array_equal(repaired, expected)


def test_bits_do_not_depend_on_what_follows(base, tmp_path):
    # Fixed padded blocks: 70 clips alone, or followed by others, give the same bits.
    few = encoder_outputs(base, Tones(), clips(70), tmp_path)
    many = encoder_outputs(base, Tones(), clips(600), tmp_path)
    np.testing.assert_array_equal(few, many[:70])


def test_the_encoder_only_ever_sees_blocks_of_one_size(base, tmp_path):
    # Another size may choose another kernel of the matrix product, and with it other last bits.
    seen = []
    hook = base.built_in.network.register_forward_hook(
        lambda _, args, __: seen.append(len(args[0]))
    )
    encoder_outputs(base, Tones(), clips(600), tmp_path)
    hook.remove()
    assert seen == [encoder_cache.BLOCK_CLIPS] * 10


@pytest.mark.slow
def test_bits_do_not_depend_on_the_number_of_workers(base, tmp_path):
    one = encoder_outputs(base, Tones(), clips(2_100), tmp_path / "one", workers=1)
    two = encoder_outputs(base, Tones(), clips(2_100), tmp_path / "two", workers=2)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("count", "workers"), [(0, 1), (1, 0)])
def test_nothing_to_do_or_nobody_to_do_it_is_refused(base, tmp_path, count, workers):
    with pytest.raises(ValueError, match="at least one utterance and one worker"):
        encoder_outputs(base, Tones(), clips(count), tmp_path, workers=workers)


def test_torch_gets_its_threads_back(base, tmp_path):
    before = torch.get_num_threads()
    encoder_outputs(base, Tones(), clips(3), tmp_path)
    assert torch.get_num_threads() == before
    assert encoder_cache.CHUNK_CLIPS % encoder_cache.BLOCK_CLIPS == 0
