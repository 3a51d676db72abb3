"""A head behind another encoder: who teaches it, what its base says, and who is no phone."""

import numpy as np
import pytest
import soundfile
import torch

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.corpora.layouts import open_corpus
from fedspeech.models.base import Base
from fedspeech.models.pooling import Pooling
from simulations.scenario.corpora import FolderCorpus
from simulations.setup import heads
from simulations.setup.pretraining import BaseTraining
from simulations.setup.recordings import split_speakers

WORDS = {"yes": 400, "no": 2_500, "up": 1_000, "down": 1_600, "left": 600, "right": 3_200}
BANDS = 16

pytestmark = pytest.mark.slow  # the synthesizer speaks


class Bands:
    """A frozen encoder: levels of sixteen bands in each of four frames."""

    rate_hz, clip_samples, context_samples, hop_samples = 16_000, 16_000, 0, 4_000
    num_windows, num_features, activation, sha256 = 4, BANDS, "identity", "bands"

    def __call__(self, heard):
        frames = heard.reshape(len(heard), 4, 4_000)
        power = np.abs(np.fft.rfft(frames, axis=-1))[..., : 2_000 // BANDS * BANDS] ** 2
        levels = np.log(power.reshape(*power.shape[:2], BANDS, -1).sum(axis=-1) + 1e-3)
        return torch.from_numpy(levels.astype(np.float32))


@pytest.fixture
def folder(tmp_path):
    """Twelve speakers whose words are pitches."""
    rng = np.random.default_rng(0)
    lines = ["file,speaker,word"]
    for number in range(12):
        for word, pitch in WORDS.items():
            tone = np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * np.arange(16_000) / 16_000)
            name = f"s{number:02}_{word}.wav"
            soundfile.write(
                tmp_path / name, 0.1 * tone + 0.003 * rng.standard_normal(16_000), 16_000
            )
            lines.append(f"{name},s{number:02},{word}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def base(monkeypatch):
    """Of an encoder without a head; the synthesizer speaks little."""
    monkeypatch.setattr(heads, "SYNTHETIC_SPEAKERS", 2)
    vocabulary = Vocabulary(("word",))
    return Base(
        encoder=Bands(), vocabulary=vocabulary, provenance={"encoder": "bands"},
        head_weight=np.zeros((3, 2 * BANDS), np.float32), head_bias=np.zeros(3, np.float32),
        pooling=Pooling.identity(BANDS),
    )  # fmt: skip


def head(folder, base, cache, **given):
    training = BaseTraining(
        corpus=folder, seed=0, cache=cache, command="as typed", progress=lambda *_: None, **given
    )
    return training.head(base, ("yes", "no", "up", "down"), {})


def test_named_speakers_teach_and_the_others_judge(folder, base, tmp_path):
    (tmp_path / "public.txt").write_text("\n".join(f"s{number:02}" for number in range(8)))
    (tmp_path / "judges.txt").write_text("s06\ns07\n")
    made = head(
        folder, base, tmp_path / "cache", speakers=str(tmp_path / "public.txt"),
        held_out=tmp_path / "judges.txt",
    )  # fmt: skip
    recorded = {name for name in made.speakers if name.startswith("s")}
    assert recorded == {f"s{number:02}" for number in range(6)}
    assert made.vocabulary.targets == ("yes", "no", "up", "down")
    assert made.provenance["encoder"] == "bands"
    assert made.provenance["head_recorded_speakers"] == 6
    assert made.provenance["held_out_target_clips"] == 8
    assert made.provenance["held_out_target_words_right"] > 0.7
    partition = split_speakers(
        open_corpus(folder), FolderCorpus(path=str(folder)), 1, made.speakers
    )
    for group in (partition.validation, partition.federated, partition.held_out):
        assert not recorded & {phone.speaker_id for phone in group}


def test_the_head_stands_behind_the_pooling_of_its_base(folder, base, tmp_path):
    (tmp_path / "public.txt").write_text("\n".join(f"s{number:02}" for number in range(10)))
    made = head(
        folder, base, tmp_path / "cache", speakers=str(tmp_path / "public.txt"), held_out=None
    )
    corpus = open_corpus(folder)
    clips = [clip for clip in corpus.utterances if clip.speaker_id == "s11"]
    clips = [clip for clip in clips if clip.word in made.vocabulary.targets]
    logits = made.logits(made.encoder_output(made.heard(corpus, clips))).numpy()
    answers = [made.vocabulary.labels[index] for index in logits[:, :4].argmax(axis=1)]
    assert answers == [clip.word for clip in clips]


def test_words_alone_are_taught_by_the_synthesizer(base, tmp_path):
    made = head(None, base, tmp_path / "cache", speakers=None, held_out=None)
    assert made.provenance["head_recorded_speakers"] == 0
    assert all(name.startswith("lesson") for name in made.speakers)
    with pytest.raises(ValueError, match="needs --words"):
        BaseTraining(
            corpus=None, speakers=None, held_out=None, seed=0, cache=tmp_path, command="",
            progress=lambda *_: None,
        ).head(base, (), {})  # fmt: skip
