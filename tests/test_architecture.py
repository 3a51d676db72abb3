"""The page that describes the architecture names only files and folders that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = (
    "fedspeech/",
    "clients/",
    "server/",
    "simulations/",
    "tflite_export/",
    "tests/",
    "docs/",
)
NAMED = sorted({name for name in re.findall(r"`([^`\s]+)`", PAGE) if name.startswith(PACKAGES)})


def section(title):
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", NAMED)
def test_every_file_that_the_page_names_is_there(name):
    assert (ROOT / name).exists(), name


def test_every_folder_of_the_picture_is_there():
    picture = PAGE.partition("```\n")[2].partition("```")[0]
    folders = set(
        re.findall(r"(?:fedspeech|simulations|clients|server|tflite_export)/\w+", picture)
    )
    assert len(folders) > 8
    assert all((ROOT / folder).exists() for folder in folders)


@pytest.mark.parametrize(
    "title",
    ["Data flow of an utterance", "Derivation of an epsilon", "Data flow of a scenario key"],
)
def test_a_data_flow_is_ten_numbered_lines(title):
    lines = section(title).strip().splitlines()
    assert [line.partition(". ")[0] for line in lines] == [str(number) for number in range(1, 11)]


def test_the_page_has_eight_concepts_and_fourteen_changes():
    def rows(title):
        return [line for line in section(title).splitlines() if line.startswith("| ")][1:]

    assert len(rows("Main concepts")) == 8
    assert len(rows("Which file to change")) == 14
