"""docs/mobile.md against the files: names, shapes, types, and what its snippets call."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fedspeech.rollout.adapter_file import checksum
from tflite_export.adapter_file import write_adapter
from tflite_export.blueprint import Blueprint
from tflite_export.converter import Converter
from tflite_export.interpreter import TfliteModel
from tflite_export.verification import require_callable
from tflite_export.weights import network

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mobile.md").read_text()
PHONES = Path(__file__).parents[1] / "support" / "phones"
LETTERS = {"c": 12, "d": 780, "e": 64, "n": 16}
SLOT = re.compile(r"`(\w+)` (float32|int32) \(([^)]*)\)")


def rows():
    """(files, signature, inputs cell, outputs cell) of the table of signatures."""
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `model_") and len(cells) == 4:
            yield re.findall(r"`(\w+)`", cells[0]), cells[1].strip("`"), cells[2], cells[3]


def slots(cell):
    """Name to (type, shape) of one cell."""
    return {
        name: (kind, tuple(LETTERS.get(part) or int(part) for part in shape.split(", ")))
        for name, kind, shape in SLOT.findall(cell)
    }


def documented():
    """(file, signature) to its inputs and outputs."""
    found = {}
    for files, signature, inputs, outputs in rows():
        for file in files:
            taken = slots(inputs)
            if inputs.startswith("as `train`"):
                taken = found[file, "train"][0] | taken
            found[file, signature] = taken, slots(outputs)
    return found


@pytest.fixture(scope="module")
def models(shipped):
    """File to the model in it."""
    arrays = network(shipped)
    merged = arrays.merged()
    personal = Blueprint(
        graph="personal", network=arrays, base_sha256=shipped.base.sha256, batch_clips=16
    )
    blueprints = {
        "model_float": Blueprint(graph="keyword", network=merged),
        "model_streaming": Blueprint(graph="streaming", network=merged),
        "model_personal": personal,
    }
    with Converter() as converter:
        return {file: TfliteModel(converter.convert(drawn)) for file, drawn in blueprints.items()}


@pytest.fixture(scope="module")
def signatures(models):
    """(file, signature) to its inputs and outputs, as the files have them."""
    return {
        (file, name): tuple(
            {key: (slot.dtype.name, slot.shape) for key, slot in side.items()}
            for side in (signature.inputs, signature.outputs)
        )
        for file, model in models.items()
        for name, signature in model.signatures.items()
    }


@pytest.mark.export
def test_every_signature_can_be_called_through_every_runtime(models):
    for model in models.values():
        require_callable(model.signatures)


@pytest.mark.export
def test_the_table_is_what_the_files_say(signatures):
    table = documented()
    assert {key: table[key] for key in signatures} == signatures
    same = {
        "model_fp16": "model_float", "model_dynamic": "model_float", "model_int8": "model_float",
        "model_streaming_int8": "model_streaming",
    }  # fmt: skip
    for file, signature in set(table) - set(signatures):
        assert table[file, signature] == signatures[same[file], signature]


def snippets():
    return re.findall(r"```(kotlin|swift|c)\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def test_every_language_loads_runs_swaps_and_trains():
    assert [language for language, _ in snippets()] == ["kotlin", "swift", "c"]
    for _, code in snippets():
        called = {"train", "train_dp", "save", "restore", "reset", "hop", "embed_hop", "score_with"}
        assert called <= set(re.findall(r'"(\w+)"', code))
    assert '"infer"' in dict(snippets())["kotlin"]


@pytest.mark.parametrize(("language", "code"), snippets(), ids=lambda value: value[:6].strip())
def test_snippets_use_names_of_the_table_only(language, code):
    table = documented()
    names = {signature for _, signature in table}
    names |= {name for sides in table.values() for side in sides for name in side}
    quoted = set(re.findall(r'"(\w+)"', code)) - {"data_offsets"}
    assert quoted <= names, language
    # All inputs of a training step are there wherever one is taken.
    assert set(table["model_personal", "train"][0]) <= quoted


def kotlin_compiler():
    """The jars of the compiler in the package kotlin-jupyter-kernel, and of its library."""
    found = importlib.util.find_spec("run_kotlin_kernel")
    if found is None or shutil.which("java") is None:
        pytest.skip("needs java and the package kotlin-jupyter-kernel")
    jars = [str(jar) for jar in Path(found.origin).parent.glob("jars/*.jar")]
    return ":".join(jars), next(jar for jar in jars if "kotlin-stdlib" in jar)


@pytest.mark.export
def test_the_kotlin_compiles_and_every_function_passes_the_checks_of_the_runtime(
    signatures, shipped, make_card, tmp_path
):
    compiler, library = kotlin_compiler()
    (code,) = [code for language, code in snippets() if language == "kotlin"]
    page = tmp_path / "page.kt"
    page.write_text(
        f"import java.io.File\nimport java.nio.*\nimport java.security.SecureRandom\n{code}"
    )
    built = tmp_path / "built"
    subprocess.run(
        ["java", "-cp", compiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib",
         "-no-reflect", "-cp", library, "-d", built, page, PHONES / "android.kt"],
        check=True,
    )  # fmt: skip
    lines = [
        "\t".join([name, kind, slot, spec[0], ",".join(map(str, spec[1]))])
        for (file, name), sides in signatures.items()
        if file != "model_float"
        for kind, side in zip(("input", "output"), sides, strict=True)
        for slot, spec in side.items()
    ]
    (tmp_path / "signatures.txt").write_text("\n".join(lines))
    content = write_adapter(shipped, make_card(shipped).inside("adapter"))
    (tmp_path / "adapter.safetensors").write_bytes(content)
    ran = subprocess.run(
        ["java", "-cp", f"{built}:{library}", "AndroidKt", "signatures.txt", "adapter.safetensors"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    values, claimed = (np.array(line.split(), np.int32) for line in ran.stdout.splitlines())
    adapter = shipped.adapter.spec.flatten(shipped.parameters)
    np.testing.assert_array_equal(values.view(np.float32), adapter)
    np.testing.assert_array_equal(claimed, checksum(adapter))


@pytest.fixture(scope="module")
def swift():
    """A parser of Swift's grammar; it knows no types."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_swift")
    return tree_sitter.Parser(tree_sitter.Language(grammar.language()))


def test_the_swift_is_grammatical(swift):
    (code,) = [code for language, code in snippets() if language == "swift"]
    assert not swift.parse(code.encode()).root_node.has_error


@pytest.mark.parametrize("slip", [("func ", "fun "), (")", ""), ("}", ""), ("let ", "val ")])
def test_a_slip_in_the_swift_would_be_seen(swift, slip):
    (code,) = [code for language, code in snippets() if language == "swift"]
    assert swift.parse(code.replace(*slip, 1).encode()).root_node.has_error


def test_the_c_compiles(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (code,) = [code for language, code in snippets() if language == "c"]
    (tmp_path / "page.c").write_text(code)
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Werror", "-Wno-error=implicit-function-declaration",
         "-fsyntax-only", "-I", PHONES, tmp_path / "page.c"],
        check=True,
    )  # fmt: skip
