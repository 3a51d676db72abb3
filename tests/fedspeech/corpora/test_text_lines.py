import gzip
import os
from pathlib import Path

import pytest

from fedspeech.corpora import text_lines
from fedspeech.corpora.text_lines import MAX_LINE_CHARACTERS, read_lines
from fedspeech.errors import CorpusError


def lines(path, data):
    path.write_bytes(data)
    return [(line.number, line.text, line.problem.partition(":")[0]) for line in read_lines(path)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_on_every_system(tmp_path, end):
    data = b"\xef\xbb\xbfa" + end + b"b\xc3\xa9" + end
    assert lines(tmp_path / "t", data) == [(1, "a", ""), (2, "bé", "")]
    assert lines(tmp_path / "t.gz", gzip.compress(data)) == [(1, "a", ""), (2, "bé", "")]


def test_a_separator_within_a_cell_ends_no_line(tmp_path):
    assert len(lines(tmp_path / "t", "a\u2028b\u0085\n".encode())) == 1


def test_a_bad_line_spoils_no_other(tmp_path):
    data = b"a\n\xff\xfe\nb\0\nc\n" + b"x" * (10 * 2**20) + b"\nd"
    found = lines(tmp_path / "t", data)
    assert [(number, problem) for number, _, problem in found] == [
        (1, ""), (2, "not UTF-8"), (3, "a control character"), (4, ""), (5, "line too long"),
        (6, ""),
    ]  # fmt: skip
    assert len(found[4][1]) < 100
    assert found[5][1] == "d"


def test_a_line_of_just_the_most_characters_is_read(tmp_path):
    data = b"x" * (MAX_LINE_CHARACTERS - 1) + b"\n" + b"y"
    assert [problem for _, _, problem in lines(tmp_path / "t", data)] == ["", ""]


def test_a_gzip_of_more_than_anybody_writes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "MAX_CHARACTERS", 3 * MAX_LINE_CHARACTERS)
    monkeypatch.setattr(text_lines, "MAX_LINES", 500)
    lines(tmp_path / "t.gz", gzip.compress(b"\n" * 500))
    for bomb in (b"\n" * 501, b"x" * (4 * MAX_LINE_CHARACTERS)):
        with pytest.raises(CorpusError, match="more than 3,145,728 characters or 500 lines, unpac"):
            lines(tmp_path / "t.gz", gzip.compress(bomb))


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"text\n" * 999, mtime=0)[:-20]])
def test_a_damaged_gzip_is_refused_by_name(tmp_path, data):
    with pytest.raises(CorpusError, match=r"t\.gz cannot be opened: "):
        lines(tmp_path / "t.gz", data)


def test_a_pipe_or_a_device_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/zero"), tmp_path):
        with pytest.raises(CorpusError, match="it is no file"):
            list(read_lines(path))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(CorpusError, match="none cannot be opened: No such file"):
        list(read_lines(tmp_path / "none"))
