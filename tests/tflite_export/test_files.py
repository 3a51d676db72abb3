import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.errors import ExportRefused
from tflite_export.files import from_c_array, to_c_array


@given(content=st.binary(max_size=200))
def test_any_bytes_read_back(content):
    assert from_c_array(to_c_array(content, "model", ["one\n\ntwo"])) == content


def test_notes_are_comments_whatever_lines_they_have():
    source = to_c_array(b"x", "model", ["first\nsecond */ #error"])
    assert "// first\n// second */ #error\n" in source


@pytest.mark.parametrize(
    "source", ["", "int x;", to_c_array(b"abc", "m", []).replace("0x62, ", "")]
)
def test_what_holds_no_whole_array_is_refused(source):
    with pytest.raises(ExportRefused, match="C array"):
        from_c_array(source)


@pytest.mark.slow
def test_a_compiler_takes_it(tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    content = bytes(range(256))
    (tmp_path / "model.cc").write_text(to_c_array(content, "model", ["a note"]))
    (tmp_path / "main.cc").write_text(
        "#include <cstddef>\n#include <cstdint>\n"
        'extern "C" const unsigned char model[];\nextern "C" const size_t model_len;\n'
        "int main() { return !(model_len == 256 && model[255] == 255 && "
        "reinterpret_cast<uintptr_t>(model) % 16 == 0); }\n"
    )
    program = tmp_path / "main"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "main.cc", "model.cc", "-o", program],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert subprocess.run([program], check=False).returncode == 0
