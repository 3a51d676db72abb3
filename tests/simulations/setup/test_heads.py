"""A head behind another encoder: who teaches it, what its base says, and who is no phone."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.corpora.layouts import open_corpus
from fedspeech.errors import ArgumentRefused, CorpusError
from fedspeech.models.base import Base
from fedspeech.models.pooling import Pooling
from simulations.scenario.corpora import FolderCorpus
from simulations.setup import heads
from simulations.setup.bases import base_of
from simulations.setup.definition import Experiment
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
    with pytest.raises(ArgumentRefused, match="needs `words`"):
        BaseTraining(
            corpus=None, speakers=None, held_out=None, seed=0, cache=tmp_path, command="",
            progress=lambda *_: None,
        ).head(base, (), {})  # fmt: skip


def test_a_run_fits_the_head_that_a_base_came_without(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(heads, "SYNTHETIC_SPEAKERS", 2)
    network = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, BANDS, 400, stride=1_000),
        torch.nn.Tanh(), torch.nn.Flatten(2),
    )  # fmt: skip
    headless = Base.from_module(
        network, example=torch.zeros(1, 16_000), words=["yes", "no", "up", "down"], license="MIT"
    )
    roles = {"public_speakers": 3, "validation_speakers": 1}
    experiment = Experiment(corpus=str(folder), base=headless, division=roles)
    made = base_of(experiment.scenario, experiment.speakers, experiment.base, tmp_path / "cache")
    phones = {
        phone.speaker_id
        for group in (experiment.speakers.partition.federated,
                      experiment.speakers.partition.held_out)
        for phone in group
    }  # fmt: skip
    assert not made.lacks_head
    assert len([name for name in made.speakers if name.startswith("s")]) == 3
    assert not phones & set(made.speakers)
    assert experiment.with_base(made).sizes == experiment.sizes  # the price is that of the plan
    assert any("none of them a phone" in words for words in heads.head_in_words(made))
    kept = dataclasses.replace(made, provenance={"license": "MIT"})
    assert base_of(experiment.scenario, experiment.speakers, kept, tmp_path) is kept


def test_too_few_speakers_behind_a_base_of_a_program_are_said_to_be_too_few(folder):
    network = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.AvgPool1d(1_000))
    base = Base.from_module(
        network, example=torch.zeros(1, 16_000), words=["yes", "no"], license="MIT"
    )
    with pytest.raises(CorpusError, match="nobody is left to federate: 8 speakers"):
        Experiment(
            corpus=str(folder), base=base,
            division={"public_speakers": 6, "validation_speakers": 2},
        )  # fmt: skip


def test_a_word_that_no_public_speaker_says_is_named(folder, base, tmp_path):
    with pytest.raises(ValueError, match=r"none says zzyzx: take more public speakers"):
        BaseTraining(
            corpus=folder, speakers="6", held_out=None, seed=0, cache=tmp_path, command="",
            progress=lambda *_: None,
        ).head(base, ("yes", "zzyzx"), {})  # fmt: skip
