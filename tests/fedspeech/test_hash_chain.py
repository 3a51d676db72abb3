"""A chain of rows stands for itself: no word of what its rows mean."""

import pytest

from fedspeech import hash_chain
from fedspeech.errors import ChainDamaged, LedgerDamaged
from fedspeech.hash_chain import HashChain, fragment_fields


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.jsonl"


def append(path, *rows, **how):
    chain = HashChain(path, **how)
    with chain.locked() as file:
        list(chain.read(file))
        for row in rows:
            chain.append(file, row)
    return chain


def read(path):
    chain = HashChain(path)
    with chain.locked() as file:
        return chain, list(chain.read(file))


def test_rows_of_any_kind_go_on_from_one_process_to_the_next(path):
    append(path, {"kind": "model", "version": 1})
    last = append(path, {"kind": "access", "who": "a person"})
    chain, rows = read(path)
    assert [(row["kind"], row["sequence"]) for row in rows] == [("model", 0), ("access", 1)]
    assert chain.head == last.head


def test_an_edited_row_is_damage_of_a_chain_and_of_no_ledger(path):
    append(path, {"kind": "model", "version": 1}, {"kind": "model", "version": 2})
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 3'))
    with pytest.raises(ChainDamaged, match="edited, inserted or removed; nothing is wri") as found:
        read(path)
    assert not isinstance(found.value, LedgerDamaged)
    with pytest.raises(LedgerDamaged, match="removed; no model is published"):
        append(path, damaged=LedgerDamaged, consequence="no model is published")


def test_a_torn_row_is_explained_by_the_next_one(path):
    append(path, {"kind": "model", "version": 1})
    path.write_bytes(path.read_bytes() + b'{"kind": "mod')
    chain, rows = read(path)
    assert (len(rows), chain.torn) == (1, b'{"kind": "mod')
    append(path, {"kind": "recovered", **fragment_fields(chain.torn)})
    assert [row["kind"] for row in read(path)[1]] == ["model", "recovered"]


def test_a_head_that_was_kept_outside_tells_of_rows_that_were_cut_off(path):
    chain = append(path, {"kind": "model", "version": 1}, {"kind": "model", "version": 2})
    assert hash_chain.keep_head(path, chain.head) == ""
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    cut = HashChain(path)
    with cut.locked() as file, pytest.raises(ChainDamaged, match="cut off its end"):
        list(cut.read(file, hash_chain.kept_head(path)))
