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
        ({"task": "melody"}, "--task must be kws or asr, got 'melody'"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(tmp_path, options, words):
    paths = {name: tmp_path / options[name] for name in ("held_out", "corpus") if name in options}
    with pytest.raises(ScenarioError, match=words):
        pretrain(tmp_path / "base.safetensors", **{**options, **paths})
    assert not list(tmp_path.iterdir())


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
