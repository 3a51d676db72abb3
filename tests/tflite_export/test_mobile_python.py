"""The Python of docs/mobile.md, run as it stands on files of the shipped base."""

import re
from pathlib import Path

import numpy as np
import pytest

from tflite_export.adapter_file import read_adapter, write_adapter
from tflite_export.blueprint import Blueprint
from tflite_export.converter import Converter
from tflite_export.weights import network

pytestmark = pytest.mark.export
DOCUMENT = (Path(__file__).parents[2] / "docs" / "mobile.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page():
    """What the page's last Python block defines; the one before hashes an adapter."""
    _, code = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    found = {}
    exec(compile(code, "docs/mobile.md", "exec"), found)
    return found


@pytest.fixture(scope="module")
def files(shipped, make_card, tmp_path_factory):
    """Folder with a streaming file, a personal file and an adapter."""
    folder, arrays = tmp_path_factory.mktemp("phone"), network(shipped)
    personal = Blueprint(
        graph="personal", network=arrays, base_sha256=shipped.base.sha256, batch_clips=16
    )
    with Converter() as converter:
        (folder / "personal.tflite").write_bytes(converter.convert(personal))
        streaming = Blueprint(graph="streaming", network=arrays.merged())
        (folder / "streaming.tflite").write_bytes(converter.convert(streaming))
    content = write_adapter(shipped, make_card(shipped).inside("adapter"))
    (folder / "adapter.safetensors").write_bytes(content)
    return folder


def test_the_hash_of_an_adapter_is_computed_as_the_page_says(files, monkeypatch):
    first, _ = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    *imports, expression = first.strip().splitlines()
    found = {}
    exec("\n".join(imports), found)
    monkeypatch.chdir(files)
    stated = read_adapter((files / "adapter.safetensors").read_bytes()).card["adapter"]["sha256"]
    assert eval(expression, found) == stated


def test_it_listens_personalizes_saves_and_restores(page, files, evidence):
    clip, logits = evidence.probes[0], evidence.logits[0]
    listening = page["Listening"](str(files / "streaming.tflite"))
    # The first frame's overlap is not fed, so that the hops end where the clip does.
    for start in range(192, len(clip) - 319, 320):
        heard = listening.heard(clip[start : start + 320])
    np.testing.assert_allclose(heard, logits, atol=1e-4)
    with pytest.raises(ValueError, match="a hop is 320 samples"):
        listening.heard(clip)

    personal = page["Personal"](str(files / "personal.tflite"), files / "adapter.safetensors")
    np.testing.assert_allclose(personal.infer(clip), logits, atol=1e-4)
    start, embeddings = personal.save(), [personal.embed(one) for one in evidence.probes[:3]]
    losses = [personal.train(embeddings, [0, 1, 2], learning_rate=0.1) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    own = personal.save()
    assert not np.array_equal(own["adapter"], start["adapter"])
    base = page["read_adapter"](files / "adapter.safetensors")["base"]
    personal.restore(base=base, **start)
    np.testing.assert_array_equal(personal.save()["adapter"], start["adapter"])
    with pytest.raises(ValueError, match="damaged or belongs to another base"):
        personal.restore(base=base, adapter=own["adapter"], checksum=start["checksum"])
    with pytest.raises(ValueError, match="outside its range"):
        personal.train(embeddings, [0, 1, 2], learning_rate=-1.0)
