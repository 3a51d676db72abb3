"""Reads and releases are rows, roles hold, and two releases isolate no few people."""

import datetime
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import shared_artifacts

from fedspeech.errors import AccessRefused, ChainDamaged
from fedspeech.sharing import gate
from fedspeech.sharing.access_log import MAY, AccessLog, Visitor
from fedspeech.sharing.cells import Cell, cells_of, isolated
from fedspeech.sharing.reading import read
from fedspeech.sharing.release_rules import counted

DAY = datetime.date(2026, 11, 30)
SHA = "ab" * 32


@pytest.fixture
def log(tmp_path):
    return AccessLog(tmp_path / "access.jsonl")


def visitor(role="owner", purpose="an audit"):
    return Visitor("ann", role, purpose, DAY)


def cell(people, where="rows[0].phones", **conditions):
    return Cell(frozenset(conditions.items()), people, where)


def test_a_read_is_a_row_and_a_refused_one_too(log):
    with log.opened():
        log.read(visitor("analyst"), "summary.json", SHA, "internal")
        with pytest.raises(AccessRefused, match="partner may not read internal"):
            log.read(visitor("partner"), "summary.json", SHA, "internal")
    assert [row["kind"] for row in log.rows] == ["read", "refused"]
    assert log.rows[1]["reason"] == "the role may not read internal artifacts"


@pytest.mark.parametrize(
    ("role", "act"),
    [(role, act) for role in MAY for act in ("public", "partner", "internal", "log", "release")],
)
def test_roles_may_what_the_table_says(log, role, act):
    def ask():
        if act == "release":
            log.release(visitor(role), "a.json", SHA, "public", [])
        else:
            log.read(visitor(role), "a.json", SHA, act)

    with log.opened():
        if act in MAY[role]:
            ask()
        else:
            with pytest.raises(AccessRefused):
                ask()
    assert (log.rows[-1]["kind"] == "refused") == (act not in MAY[role])


def test_only_owners_give_away_and_partners_never_see_what_is_inside():
    assert [role for role in MAY if "release" in MAY[role]] == ["owner"]
    assert MAY["partner"] == ("public", "partner")
    assert "log" not in MAY["analyst"]


@pytest.mark.parametrize("change", ["edit", "cut", "reorder", "remove"])
def test_a_log_that_was_changed_gives_nothing_away(log, change):
    with log.opened():
        for _ in range(3):
            log.release(visitor(), "a.json", SHA, "public", [(cell(60, accent="north"),)])
    lines = log.path.read_bytes().splitlines(keepends=True)
    changed = {
        "edit": [lines[0].replace(b"60", b"61"), *lines[1:]], "cut": lines[:-1],
        "reorder": [lines[1], lines[0], lines[2]], "remove": [],
    }[change]  # fmt: skip
    log.path.write_bytes(b"".join(changed)) if changed else log.path.unlink()
    with pytest.raises(ChainDamaged):
        AccessLog.released_before(log.path)


def test_cells_come_back_as_they_were_given_away(log):
    cells = cells_of(read("table.json", json.dumps(shared_artifacts.rows()).encode()))
    with log.opened():
        log.release(visitor(), "table.json", SHA, "public", cells)
    ((sha256, found),) = AccessLog.released_before(log.path)
    assert sha256 == SHA
    assert {(c.conditions, c.people) for c in found} == {
        (frozenset({("accent", accent)}), people)
        for accent, people in (("north", 60), ("south", 80), ("coast", 100))
    }


PAIRS = {
    "one person left": ([cell(60, accent="north")], [cell(59, accent="north")]),
    "people came": ([cell(60, accent="north")], [cell(70, accent="north")]),
    "a segment within another": (
        [cell(60, accent="north")], [cell(55, accent="north", age="young")]
    ),
    "the segment around another": (
        [cell(55, accent="north", age="young")], [cell(60, accent="north")]
    ),
    "a total and its parts": (
        [cell(244)], [cell(60, accent="n"), cell(80, accent="s"), cell(100, accent="c")]
    ),
    "parts of two releases": (
        [cell(60, accent="n"), cell(80, accent="s")], [cell(100, accent="c"), cell(244)]
    ),
    "everybody and a segment": ([cell(240)], [cell(230, device="handset")]),
    "a shifted limit": ([cell(100, age="under 30")], [cell(103, age="under 32")]),
    "a range within a range": ([cell(100, age="18-60")], [cell(90, age="20-60")]),
    "ranges that leave a gap": (
        [cell(100, age="18-29"), cell(100, age="31-50")], [cell(205, age="18-50")]
    ),
    "overlapping segments": (
        [cell(100, accent="n"), cell(100, sex="f"), cell(150)],
        [cell(55, accent="n", sex="f")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_two_releases_that_isolate_a_few_are_found(name):
    earlier, new = PAIRS[name]
    assert list(isolated([tuple(earlier)], [tuple(new)], 20))
    assert list(isolated([tuple(new)], [tuple(earlier)], 20)), "in either order"


@pytest.mark.parametrize("name", PAIRS)
def test_larger_groups_may_be_told(name):
    earlier, new = PAIRS[name]
    assert not list(isolated([tuple(earlier)], [tuple(new)], 1))
    ten = [
        [Cell(each.conditions, each.people * 20, each.where) for each in release]
        for release in (earlier, new)
    ]
    assert not list(isolated([tuple(ten[0])], [tuple(ten[1])], 20))


def test_releases_of_one_table_twice_are_no_difference():
    same = (cell(60, accent="n"), cell(80, accent="s"), cell(140))
    assert not list(isolated([same], [same], 20))


def fixed(chosen, people):
    """Sizes of groups that all solutions agree on; nobody knows that others are none."""
    inside = np.array(
        [[c.get("a", a) == a and c.get("b", b) == b for a, b in people] for c in chosen], float
    )
    groups, place = np.unique(inside, axis=1, return_inverse=True)
    sizes = np.bincount(place.ravel(), weights=list(people.values()))
    known = np.diag(np.linalg.pinv(groups) @ groups) > 1 - 1e-9
    return [size for size, is_known in zip(sizes, known, strict=True) if is_known]


def test_whatever_the_equations_fix_is_found():
    rng = np.random.default_rng(5)
    kinds = [
        {name: value for name, value in (("a", a), ("b", b)) if value}
        for a, b in itertools.product(("x", "y", None), ("u", "v", None))
    ]
    found = 0
    for _ in range(200):
        people = {each: int(rng.choice([3, 40, 50])) for each in itertools.product("xyz", "uvw")}
        chosen = [kinds[place] for place in rng.choice(len(kinds), 4, replace=False)]
        cells = [
            cell(sum(n for (a, b), n in people.items()
                     if each.get("a", a) == a and each.get("b", b) == b), **each)
            for each in chosen
        ]  # fmt: skip
        few = [n for n in fixed(chosen, people) if 0 < n < 20]
        before = [n for half in (chosen[:2], chosen[2:]) for n in fixed(half, people) if n < 20]
        if few and not before:
            found += 1
            assert list(isolated([tuple(cells[:2])], [tuple(cells[2:])], 20))
    assert found >= 5, "nothing would be shown"


def released(case):
    """What the log holds once a case was given away."""
    candidate = gate.Candidate(read(case.name, case.content), case.manifest, case.policy)
    return tuple((case.manifest.sha256, cells) for cells in counted(candidate))


def test_the_gate_holds_a_file_against_what_was_given_away():
    first = shared_artifacts.in_json(shared_artifacts.rows())
    later = shared_artifacts.in_json({"rows": [shared_artifacts.row(phones=57)]})
    policy = replace(shared_artifacts.POLICY, released=released(first))
    found = gate.check_content(later.name, later.content, later.manifest_bytes(), policy)
    assert {finding.rule for finding in found.findings} == {"differencing"}
    again = gate.check_content(first.name, first.content, first.manifest_bytes(), policy)
    assert again.passed, "what was given away may be checked again"


def test_contributors_without_noise_are_a_cell_and_with_noise_none():
    open_ = shared_artifacts.in_json(shared_artifacts.rows(), claim=None)
    one_less = shared_artifacts.in_json(
        shared_artifacts.rows(title="x"), claim=None, contributors=239
    )
    policy = replace(shared_artifacts.POLICY, released=released(open_))
    found = gate.check_content(one_less.name, one_less.content, one_less.manifest_bytes(), policy)
    assert "differencing" in {finding.rule for finding in found.findings}
    noisy = shared_artifacts.in_json(shared_artifacts.rows(title="x"), contributors=239)
    assert gate.check_content(noisy.name, noisy.content, noisy.manifest_bytes(), policy).passed
