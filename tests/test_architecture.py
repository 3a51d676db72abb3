"""The page that leads a newcomer through the house names only rooms that stand."""

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


def test_every_room_of_the_picture_is_there():
    picture = PAGE.partition("```\n")[2].partition("```")[0]
    rooms = set(re.findall(r"(?:fedspeech|simulations|clients|server|tflite_export)/\w+", picture))
    assert len(rooms) > 8
    assert all((ROOT / room).exists() for room in rooms)


@pytest.mark.parametrize("life", ["an utterance", "an epsilon", "a scenario key"])
def test_a_life_is_ten_lines_each_with_a_file(life):
    lines = section(f"The life of {life}").strip().splitlines()
    assert [line.partition(". ")[0] for line in lines] == [str(number) for number in range(1, 11)]


def test_the_page_has_eight_ideas_and_twelve_changes():
    def rows(title):
        return [line for line in section(title).splitlines() if line.startswith("| ")][1:]

    assert len(rows("Eight ideas")) == 8
    assert len(rows("Where do I change ...?")) == 12
