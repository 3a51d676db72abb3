"""Options of `fedspeech pretrain` that do not belong together, and what it writes."""

import pytest

from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.encoder_spec import ENCODERS
from simulations.commands.pretrain import pretrain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"held_out": "names"}, "--held-out belongs to --corpus"),
        ({"corpus": "folder"}, "--corpus and --speakers belong together"),
        ({"task": "asr", "words": "yes no"}, "--words belongs to --task kws"),
        ({"task": "asr", "encoder": "micro"}, "--encoder is of a base for words that is trained"),
        (
            {"words": "yes no", "encoder": "huge"},
            "encoder must be one of standard, micro, esphome, got",
        ),
        (
            {"task": "asr", "hard_negative_hours": 1},
            "--hard-negative-hours must be 0 to 1000, and is for words, got 1 for --task asr",
        ),
        ({"hard_negative_hours": -1}, "must be 0 to 1000"),
        ({"base": "a.pt2", "hard_negative_hours": 1}, "for the built-in encoder and for"),
        ({"task": "melody"}, "--task must be kws or asr, got 'melody'"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(tmp_path, options, words):
    paths = {name: tmp_path / options[name] for name in ("held_out", "corpus") if name in options}
    with pytest.raises(ScenarioError, match=words):
        pretrain(tmp_path / "base.safetensors", **{**options, **paths})
    assert not list(tmp_path.iterdir())


def test_hours_are_mined_with_the_base_that_is_made_without_them(tmp_path, monkeypatch):
    asked = {}

    def made(vocabulary, mining, **named):
        asked.update(named, hours=mining.hours)
        return Base.load(default_base_path())

    monkeypatch.setattr("simulations.setup.pretraining.synthetic_listener", made)
    pretrain(tmp_path / "b.safetensors", words="stop", hard_negative_hours=0.5, cache=tmp_path)
    assert asked["hours"] == 0.5
    without = "fedspeech pretrain --seed 0 --words 'stop'"
    assert [one["command"] for one in asked["provenance"]] == [
        without, f"{without} --hard-negative-hours 0.5"
    ]  # fmt: skip


def test_the_file_that_is_written_says_what_was_typed(tmp_path, monkeypatch, capsys):
    asked = {}

    def made(vocabulary, **named):
        asked.update(named, targets=vocabulary.targets)
        return Base.load(default_base_path())

    monkeypatch.setattr("simulations.setup.pretraining.synthetic_base", made)
    options = {"words": "Lamp, stop", "lexicon": ["lamp=L AE1 M P"], "cache": tmp_path}
    pretrain(tmp_path / "base.safetensors", **options)
    assert asked["targets"] == ("lamp", "stop")
    assert asked["provenance"] == {
        "command": "fedspeech pretrain --seed 0 --words 'lamp stop' --lexicon 'lamp=L AE1 M P'"
    }
    assert asked["settings"].encoder == ENCODERS["standard"]
    assert Base.load(tmp_path / "base.safetensors").sha256 in capsys.readouterr().out
    pretrain(tmp_path / "base.safetensors", **{**options, "encoder": "micro"})
    assert asked["settings"].encoder == ENCODERS["micro"]
    assert asked["provenance"]["command"].startswith("fedspeech pretrain --encoder micro --seed 0")
