"""An adapter of another package: named like an app of Flower, with its source in the digest."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fedspeech import own_code
from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.errors import ScenarioError
from fedspeech.models.adapters import Adapter, HeadAdapter, make_adapter, name_of
from fedspeech.models.adapters.files import load_adapter, save_adapter
from fedspeech.models.adapters.head import copied_head, head_logits, head_shapes
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, default_base_path
from fedspeech.own_code import hand_over
from fedspeech.queries.query import open_query
from fedspeech.queries.training import AdapterTraining
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import ParameterSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gated(Adapter):
    """A gate per pooled feature before the head; gradients from torch."""

    name = "gated"
    output_unit = "clip"

    num_windows: int
    num_features: int
    num_labels: int
    activation: str = "relu"

    @property
    def spec(self):
        gate = ("gate", (self.num_features,))
        return ParameterSpec((gate, *head_shapes(self.num_features, self.num_labels)))

    @property
    def embedding_shape(self):
        return (self.num_features,)

    def initial(self, head_weight, head_bias):
        gate = np.ones(self.num_features, np.float32)
        return {"gate": gate, **copied_head(self.spec, head_weight, head_bias)}

    def embed(self, encoder_output):
        return torch.relu(encoder_output).mean(dim=1)

    def logits(self, parameters, embeddings):
        return head_logits(parameters, embeddings * parameters["gate"][:, None])


NAME = f"{__name__}:Gated"


@pytest.fixture(autouse=True)
def handed_over(monkeypatch):
    monkeypatch.setattr(own_code, "_HANDED_OVER", {})
    hand_over(Gated)


def query():
    return AdapterTraining(
        training=LocalTraining(),
        adapter=AdapterShape(name=NAME, num_windows=13, num_features=64, num_labels=12),
        optimizer=FedOpt(),
    )


def test_a_name_builds_it_with_the_sizes_of_the_base():
    adapter = make_adapter(NAME, 13, 64, 12)
    assert adapter == Gated(num_windows=13, num_features=64, num_labels=12)
    assert name_of(adapter) == NAME
    assert name_of(HeadAdapter(64, 12)) == "head"


def test_a_job_names_it_and_its_source_is_in_the_digest():
    described = json.loads(json.dumps(query().described()))
    again = open_query(described)
    assert again == query()
    assert again.dimension == 64 + 64 * 12 + 12
    assert b"class Gated" in again.code()
    plain = dataclasses.replace(
        again, adapter=AdapterShape(name="head", num_windows=13, num_features=64, num_labels=12)
    )
    assert plain.code() == b""


def test_what_is_not_declared_or_no_adapter_is_refused():
    for name in ("os:system", "tests.elsewhere:Adapter"):
        with pytest.raises(ScenarioError, match=r"an adapter must be .* entry point"):
            make_adapter(name, 13, 64, 12)
    hand_over(LocalDataset)
    with pytest.raises(ScenarioError, match="must be a class of adapters"):
        make_adapter("fedspeech.training.dataset:LocalDataset", 13, 64, 12)


def test_phones_train_it_and_its_files_name_it(tmp_path):
    base = Base.load(default_base_path())
    shape = AdapterShape.of(base, NAME, 12)
    adapter = shape.build()
    start = adapter.initial(base.head_weight, base.head_bias)
    rng = np.random.default_rng(1)
    clips = LocalDataset(rng.random((8, 64), dtype=np.float32), rng.integers(0, 12, 8))
    (delta,) = train_cohort(adapter, start, [clips], LocalTraining(), [rng])
    moved = adapter.spec.unflatten(adapter.spec.flatten(start) + delta.vector)
    assert (moved["gate"] != 1).any()
    save_adapter(
        tmp_path, shape, moved, base_sha256=base.sha256, vocabulary=base.vocabulary, rounds=1
    )
    loaded, values = load_adapter(tmp_path, base)
    assert loaded == adapter
    np.testing.assert_array_equal(values["gate"], moved["gate"])


@pytest.mark.slow
def test_the_page_about_adapters_does_what_it_shows():
    page = (Path(__file__).parents[4] / "docs" / "adapters.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, globals())
