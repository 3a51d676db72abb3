"""A base from public speakers: who teaches and who judges, and what is said of the base."""

import numpy as np
import pytest
import soundfile

from fedspeech.errors import ArgumentRefused
from simulations.setup import pretraining
from simulations.setup.pretraining import BaseTraining

WORDS = {"yes": 400, "no": 2_500, "up": 1_000, "down": 1_600, "left": 600, "right": 3_200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve speakers whose words are pitches."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    lines = ["file,speaker,word"]
    for number in range(12):
        for word, pitch in WORDS.items():
            tone = np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * np.arange(16_000) / 16_000)
            name = f"s{number:02}_{word}.wav"
            soundfile.write(root / name, 0.1 * tone + 0.003 * rng.standard_normal(16_000), 16_000)
            lines.append(f"{name},s{number:02},{word}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def quick(monkeypatch):
    """One epoch: who is heard and what is counted does not depend on how well it is learned."""
    heard = {}
    learn = pretraining.pretrain

    def one_epoch(lesson, vocabulary, settings):
        del settings
        heard["training"] = {(clip.speaker_id, clip.word) for clip in lesson.utterances}
        heard["validation"] = {clip.speaker_id for clip in lesson.validation}
        return learn(lesson, vocabulary, pretraining_settings())

    monkeypatch.setattr(pretraining, "pretrain", one_epoch)
    return heard


def base_of(folder, speakers, *, targets=(), held_out=None, cache):
    training = BaseTraining(
        corpus=folder, speakers=str(speakers), held_out=held_out, seed=0, cache=cache,
        command="as typed", progress=lambda *_: None,
    )  # fmt: skip
    return training.keywords(targets, {})


def pretraining_settings():
    from fedspeech.training.pretrain import PretrainSettings

    return PretrainSettings(epochs=1, batch_clips=32)


@pytest.mark.slow
def test_held_out_speakers_can_be_named_and_teach_nothing(folder, tmp_path, quick):
    names, held_out = tmp_path / "public.txt", tmp_path / "test_list.txt"
    names.write_text("\n".join(f"s{number:02}" for number in range(6)))
    held_out.write_text("s04\ns11\n")
    base = base_of(folder, names, held_out=held_out, cache=tmp_path)
    assert quick["validation"] == {"s04", "s11"}
    assert set(base.speakers) >= {"s00", "s01", "s02", "s03", "s05"}
    assert not set(base.speakers) & {"s04", "s11"}


@pytest.mark.slow
def test_other_words_of_the_corpus_teach_and_false_accepts_are_reported(folder, tmp_path, quick):
    base = base_of(folder, 5, targets=("yes", "no", "up"), cache=tmp_path)
    said = {word for speaker, word in quick["training"] if speaker[1:].isdigit()}
    assert said == set(WORDS)  # three other words are too few to hold any back
    found = base.provenance
    assert found["held_out_other_clips"] == 3 * len(quick["validation"])
    assert found["held_out_target_clips"] == 3 * len(quick["validation"])
    for name in ("held_out_false_accepts", "held_out_false_rejects_at_5_percent_false_accepts"):
        assert 0 <= found[name] <= 1
    assert "in training said by other speakers" in found["held_out_other_words"]
    teachers = {name for name in base.speakers if name[1:].isdigit()}
    assert len(teachers) + len(quick["validation"]) == 5


@pytest.mark.slow
def test_words_that_nobody_lists_leave_some_that_are_no_target(folder, tmp_path, quick):
    base = base_of(folder, 5, cache=tmp_path)
    assert len(base.vocabulary.targets) == 4


@pytest.mark.parametrize(
    ("speakers", "words"),
    [("1", "at least 2 and leave somebody"), ("12", "at least 2 and leave somebody")],
)
def test_numbers_that_leave_nobody_are_refused(folder, tmp_path, speakers, words):
    with pytest.raises(ArgumentRefused, match=words):
        base_of(folder, speakers, cache=tmp_path)


def test_everybody_held_out_is_refused(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("s00\ns01\n")
    with pytest.raises(ArgumentRefused, match="at least one speaker to learn from"):
        base_of(folder, names, held_out=names, cache=tmp_path)
