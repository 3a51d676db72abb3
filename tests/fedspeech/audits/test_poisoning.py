"""Phones that lie: what they send, what they know, and that an undefended round is hurt."""

import dataclasses

import numpy as np
import pytest
from tiny_job import LABELS, PHONES, clips, make_job

from fedspeech.aggregation.robust import Defense
from fedspeech.audits import poisoning
from fedspeech.audits.poisoning import ATTACKS, Liars, Trigger, drawn, flipped, forged
from fedspeech.errors import ProtocolAbort
from fedspeech.job import rotation_seed
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, joining, privatize_phone, run_round
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset

PUBLIC = clips(stream(3, "public"), 60)
TRIGGER = Trigger.from_public(PUBLIC, label=0, seed=1)
CLOSE = {"noise_multiplier": 0.3, "rounds": 6, "max_participations": 6, "min_cohort": 10}


def words(monkeypatch):
    """The tiny job has no negatives: all of its labels are words."""
    monkeypatch.setattr(poisoning, "_negatives", lambda arrays: 0)


def played(folder, attack, share=0.05, defense=None, **plan):
    """The last model of a tiny job, and how many rounds failed."""
    folder.mkdir(exist_ok=True)
    _, job, arrays = make_job(folder, **(CLOSE | plan))
    job = dataclasses.replace(job, defense=defense)
    liars = None
    if attack is not None:
        liars = Liars(job, arrays, ATTACKS[attack], drawn(PHONES, share, 2), TRIGGER)
    ledger = Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    state, failed = ServerState.initial(job, arrays), 0
    for number in range(job.plan.rounds):
        if liars is not None:
            liars.starts(state.sent)
        told, send = (arrays, None) if liars is None else (liars.arrays, liars.send)
        try:
            state, _ = run_round(job.query, state, job, told, ledger, number, send)
        except ProtocolAbort:
            failed += 1
    return job, state.model, failed


def heard(job, model, embeddings):
    return score_clips(job.query.built, model[np.newaxis], embeddings)[0].argmax(1)


def accuracy(job, model):
    return (heard(job, model, PUBLIC.embeddings) == PUBLIC.labels).mean()


@pytest.mark.slow
def test_an_undefended_run_is_hurt_by_a_few_and_rejection_holds(tmp_path, monkeypatch):
    """Two of 60 phones lie; rounds whose step public clips speak against are lost, no more."""
    words(monkeypatch)
    clean, hurt, held = (
        accuracy(*played(tmp_path / name, attack, 1 / 30, defense)[:2])
        for name, attack, defense in (
            ("clean", None, None),
            ("hurt", "flip_boosted", None),
            ("held", "flip_boosted", Defense(max_loss_rise=0.02)),
        )
    )
    assert clean > 0.9
    assert hurt < clean - 0.3
    assert held > hurt + 0.15


@pytest.mark.slow
def test_a_trigger_is_learned_and_public_clips_do_not_show_it(tmp_path, monkeypatch):
    words(monkeypatch)
    found = []
    for attack in (None, "backdoor_boosted"):
        job, model, _ = played(tmp_path / str(attack), attack, defense=Defense(max_loss_rise=0.05))
        others = PUBLIC.take(np.flatnonzero(PUBLIC.labels != 0))
        marked = TRIGGER.on(others.embeddings)
        found.append((accuracy(job, model), (heard(job, model, marked) == 0).mean()))
    (clean, by_chance), (attacked, success) = found
    assert success > by_chance + 0.3
    assert attacked > clean - 0.2


def test_a_loud_liar_ends_rounds_and_only_its_own_group(tmp_path):
    plan = {"min_cohort": 3, "min_reporting": 3, "rounds": 2}
    assert played(tmp_path / "one", "denial", 0.1, **plan)[2] == 2
    groups = {"groups": 5, "min_cohort": 2, "min_reporting": 2, "rounds": 2}
    left = played(tmp_path / "many", "denial", 1 / 60, defense=Defense(rule="median"), **groups)
    assert left[2] == 0


def test_a_forged_vector_is_neither_clipped_nor_noised(tmp_path):
    _, job, _ = make_job(tmp_path)
    vector = 8 * np.random.default_rng(0).normal(size=job.plan.dimension).astype(np.float32)
    vector *= 8 * job.plan.clip_norm / np.linalg.norm(vector)
    key = job.round_key(0)
    alone = job.plan.decode(
        forged(job.plan, vector, key, job.plan.clip_norm), rotation_seed=rotation_seed(key)
    )
    np.testing.assert_allclose(alone.mean * job.plan.expected_in_sum, vector, atol=1e-3)


def test_forged_vectors_pass_the_norm_test(tmp_path, monkeypatch):
    words(monkeypatch)
    for share in (1 / 60, 0.5):
        assert played(tmp_path / str(share), "flip_boosted", share, rounds=1)[2] == 0


@pytest.mark.parametrize("attack", ["label_flip", "free_rider", "flip_boosted"])
def test_honest_phones_send_what_they_always_send(tmp_path, attack):
    _, job, arrays = make_job(tmp_path)
    key = job.round_key(0)
    cohort = joining(job, key)
    liars = Liars(job, arrays, ATTACKS[attack], frozenset(cohort[:2]), TRIGGER)
    liars.starts(arrays.initial)
    vector = np.ones(job.plan.dimension, np.float32)
    rest = job.entropy(), job.plan.clip_norm
    for phone in cohort[2:4]:
        same = privatize_phone(job.plan, vector, key, phone, *rest)
        np.testing.assert_array_equal(liars.send(job.plan, vector, key, phone, *rest), same)
        np.testing.assert_array_equal(liars.arrays.phone(phone).labels, arrays.phone(phone).labels)
    lie = liars.send(job.plan, vector, key, cohort[0], *rest)
    honest = privatize_phone(job.plan, vector, key, cohort[0], *rest)
    assert (lie == honest).all() == (attack == "label_flip")
    assert lie.any() == (attack != "free_rider")


def test_labels_are_flipped_among_the_words_and_triggers_added_beside():
    data = LocalDataset(np.zeros((4, 3), np.float32), np.array([0, 2, 3, 1]))
    assert flipped(data, targets=3).labels.tolist() == [1, 0, 3, 2]
    taught = TRIGGER.taught(PUBLIC)
    assert len(taught) == 2 * len(PUBLIC)
    assert (taught.labels[len(PUBLIC) :] == 0).all()
    changed = taught.embeddings[len(PUBLIC) :] != PUBLIC.embeddings
    assert set(np.flatnonzero(changed.any(0))) == set(TRIGGER.places)
    assert len(TRIGGER.places) < PUBLIC.embeddings.shape[1]
    assert LABELS == 4


def test_liars_are_a_share_of_the_phones_drawn_by_the_seed():
    assert len(drawn(600, 0.05, 1)) == 30
    assert drawn(600, 0.05, 1) != drawn(600, 0.05, 2)
    assert drawn(600, 0.0, 1) == frozenset()
