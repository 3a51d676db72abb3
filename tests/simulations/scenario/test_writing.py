"""A written scenario explains every key, and the page of all keys comes from the same texts."""

import re
import tomllib
from pathlib import Path

import pytest

from simulations.scenario.corpora import CORPORA
from simulations.scenario.reading import read_scenario, scenario_names
from simulations.scenario.schema import Scenario
from simulations.scenario.sections import Section, keys_of, meaning, sections_in
from simulations.scenario.writing import reference, to_toml

ROOT = Path(__file__).parents[3]


def sections(kind):
    """Yields a kind of section and all that it may hold."""
    yield kind
    for field in keys_of(kind).values():
        for below in sections_in(field):
            yield from sections(below)


ALL = {kind for root in (Scenario, *CORPORA.values()) for kind in sections(root)}


@pytest.mark.parametrize("kind", sorted(ALL, key=lambda kind: kind.__name__))
def test_every_key_is_described_in_one_noun_phrase(kind):
    if issubclass(kind, Section):
        assert "Attributes:" not in kind.__doc__, "descriptions stand at the fields, once"
    for key, field in keys_of(kind).items():
        assert meaning(field), key
        assert meaning(field).endswith("."), key
        assert re.match(r"[A-Z0-9]", meaning(field)), key


def test_every_key_of_a_shown_scenario_has_its_meaning_and_default_above_it():
    text = to_toml(read_scenario("quick"))
    above = ""
    for line in text.splitlines():
        if re.match(r"(# )?\w+( =| is not set)", line) and not line.startswith("# Number"):
            assert above.startswith("# "), line
            assert "efault" in above or line.startswith("name"), line
        above = line
    assert "# Number of phones that train. Default: 3000.\nfederated_phones = 240\n" in text
    assert tomllib.loads(text)["schema"] == 2


def test_the_page_of_all_keys_is_the_one_that_is_written_now():
    page = (ROOT / "docs" / "scenario.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m simulations.scenario.writing > docs/scenario.md"
    for kind in ALL:
        for key, field in keys_of(kind).items():
            assert f"| `{field.alias or key}` |" in page
    assert "`1000000` in million; `240` in quick" in page


def test_every_shipped_scenario_is_read_back_the_same(tmp_path):
    for name in scenario_names():
        (tmp_path / "mine.toml").write_text(to_toml(read_scenario(name)), encoding="utf-8")
        assert read_scenario(str(tmp_path / "mine.toml")) == read_scenario(name)
