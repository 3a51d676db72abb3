import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.models.adapters.files import load_adapter, save_adapter
from fedspeech.models.adapters.shape import AdapterShape

BASE = SimpleNamespace(sha256="a" * 64)  # of adapters behind the encoder the hash alone is asked
VOCABULARY = Vocabulary(("yes", "no"))


def write(folder, name="affine", **changes):
    adapter = AdapterShape(name=name, num_windows=3, num_features=5, num_labels=4)
    rng = np.random.default_rng(0)
    parameters = {
        key: rng.standard_normal(shape).astype(np.float32) for key, shape in adapter.spec.shapes
    } | changes.pop("parameters", {})
    settings = {"base_sha256": BASE.sha256, "vocabulary": VOCABULARY, "rounds": 7}
    save_adapter(folder, adapter, parameters, **(settings | changes))
    return adapter, parameters


@pytest.mark.parametrize("name", ["head", "affine", "bottleneck"])
def test_what_is_saved_is_what_is_loaded(tmp_path, name):
    adapter, parameters = write(tmp_path / "new" / "folder", name)
    loaded, values = load_adapter(tmp_path / "new" / "folder", BASE)
    assert loaded == adapter.build()
    assert adapter.spec.flatten(values).tobytes() == adapter.spec.flatten(parameters).tobytes()
    config = json.loads((tmp_path / "new" / "folder" / "adapter_config.json").read_text())
    assert config["rounds"] == 7
    assert config["targets"] == ["yes", "no"]


def test_the_three_files_and_nothing_else(tmp_path):
    write(tmp_path, card="## Guarantee\n\nnone")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    card = (tmp_path / "README.md").read_text()
    assert "fedspeech.models.adapters.files.load_adapter" in card
    assert "PEFT cannot load them" in card
    assert card.endswith("## Guarantee\n\nnone\n")


def test_another_base_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=f"belongs to base {BASE.sha256}, got {'b' * 64}"):
        load_adapter(tmp_path, SimpleNamespace(sha256="b" * 64))


def test_values_that_are_not_finite_are_neither_written_nor_read(tmp_path):
    bad = {"head_bias": np.full(4, np.nan, np.float32)}
    with pytest.raises(ValueError, match="parameters must be finite"):
        write(tmp_path, parameters=bad)
    assert not list(tmp_path.iterdir())
    _, parameters = write(tmp_path)
    data = safetensors_numpy.save(parameters | bad)
    (tmp_path / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="parameters must be finite"):
        load_adapter(tmp_path, BASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "expected format 2, got 1"),
        ({"adapter": {"name": "tail"}}, "an adapter is head, affine or bottleneck"),
        ({"adapter": {"name": "lora"}}, "lora is set for the adapter lora alone"),
        ({"adapter": {"name": "no.such:Adapter"}}, "must be declared as an entry point"),
        ({"adapter": {"name": "head"}}, "expected parameters"),
        ({"adapter": {"num_features": 6}}, "expected scale of shape"),
        ({"adapter": {"num_features": []}}, "holds no usable adapter"),
        ({"targets": ["yes", "no", "go"]}, "the adapter has 4 outputs for 5 labels"),
        ({"adapter": None}, "holds no usable adapter"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, change, message):
    write(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    if change.get("adapter"):
        change = {"adapter": config["adapter"] | change["adapter"]}
    path.write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        load_adapter(tmp_path, BASE)


def test_damaged_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no usable adapter"):
        load_adapter(tmp_path, BASE)
    write(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="holds no usable adapter"):
        load_adapter(tmp_path, BASE)
    _, parameters = write(tmp_path)
    weights.write_bytes(safetensors_numpy.save(parameters | {"scale": np.ones(6, np.float32)}))
    with pytest.raises(ValueError, match="expected scale of shape"):
        load_adapter(tmp_path, BASE)


def test_bad_arguments_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="base_sha256 must be 64 hex digits"):
        write(tmp_path, base_sha256="abc")
    with pytest.raises(ValueError, match="rounds must not be negative, got -1"):
        write(tmp_path, rounds=-1)
    with pytest.raises(ValueError, match="the adapter has 4 outputs for 5 labels"):
        write(tmp_path, vocabulary=Vocabulary(("yes", "no", "go")))
