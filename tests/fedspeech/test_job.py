"""A job is the same for everybody who holds it, or it is refused."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_job import PHONES, TRAINING, make_arrays, make_job, with_plan

from fedspeech import job as job_module
from fedspeech import source
from fedspeech.errors import ProtocolAbort, ScenarioError
from fedspeech.job import Job, check_key, rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.population import PopulationArrays
from fedspeech.privacy.examples import ExamplePrivacy
from fedspeech.training.virtual_phones import VirtualPhones

CLIPS = ExamplePrivacy(noise_multiplier=1.0, clip_norm=1.0, delta=1e-5)


def asking(job, **changes):
    """The same job with a changed query."""
    return dataclasses.replace(job, query=dataclasses.replace(job.query, **changes))


def test_a_job_and_its_arrays_survive_a_round_trip(tmp_path):
    path, job, arrays = make_job(tmp_path, num_shards=4)
    read = Job.load(path)
    assert read == job
    assert read.fingerprint == job.fingerprint
    mapped = read.load_arrays()
    assert mapped.sha256() == arrays.sha256() == make_arrays().sha256()
    np.testing.assert_array_equal(mapped.phone(7).embeddings, arrays.phone(7).embeddings)


def test_a_folder_with_all_its_parts_can_be_carried_elsewhere(tmp_path):
    (tmp_path / "here").mkdir()
    path, job, arrays = make_job(tmp_path / "here")
    relative = dataclasses.replace(
        job, arrays="arrays", identities="identities.key", durable_state="phones"
    )
    relative.save(path)
    moved = (tmp_path / "here").rename(tmp_path / "there")
    read = Job.load(moved / "job.json")
    assert read.load_arrays().sha256() == arrays.sha256()
    assert read.durable_state == str(moved / "phones")
    assert read.simulation_only == ""
    assert read.fingerprint == job.fingerprint


def with_telemetry(arrays, phones):
    """The same arrays with p % 3 events on phone p, numbered, and two attributes on each."""
    sizes = np.arange(phones) % 3
    return dataclasses.replace(
        arrays,
        events=np.arange(2 * sizes.sum(), dtype=np.int16).reshape(-1, 2),
        event_offsets=np.concatenate([[0], np.cumsum(sizes)]),
        attributes=np.stack([np.arange(phones), np.arange(phones) % 4], axis=1).astype(np.int16),
    )


def test_telemetry_reaches_a_node_with_the_arrays(tmp_path):
    path, job, arrays = make_job(tmp_path, arrays=with_telemetry(make_arrays(), PHONES))
    assert job.arrays_sha256 != make_arrays().sha256()
    mapped = Job.load(path).load_arrays()
    assert mapped.phone(5).events.tolist() == [[8, 9], [10, 11]]
    assert mapped.phone(6).events.shape == (0, 2)
    assert mapped.phone(7).attributes.tolist() == [7, 3]
    np.testing.assert_array_equal(mapped.phone(7).labels, arrays.phone(7).labels)


def test_phones_drawn_from_voices_keep_telemetry_of_their_own():
    arrays = dataclasses.replace(
        with_telemetry(make_arrays(), phones=1000), virtual_phones=VirtualPhones(seed=1, share=0.5)
    )
    assert arrays.phone(998).events.shape == (2, 2)
    assert arrays.phone(998).attributes.tolist() == [998, 2]


def test_arrays_without_telemetry_are_those_of_the_jobs_before_it(tmp_path):
    arrays = make_arrays()
    assert arrays.sha256() == "823737cd88146a598a0771b30f681316fd33ffd4c21995197de9ff4bfac1c6f0"
    arrays.save(tmp_path / "arrays")
    assert not list(tmp_path.glob("arrays/*event*")) + list(tmp_path.glob("arrays/attr*"))
    assert arrays.phone(3).events.size == arrays.phone(3).attributes.size == 0


@pytest.mark.parametrize("name", ["events", "event_offsets", "attributes"])
def test_telemetry_that_was_changed_or_removed_is_refused(tmp_path, name):
    _, job, _ = make_job(tmp_path, arrays=with_telemetry(make_arrays(), PHONES))
    file = tmp_path / "arrays" / f"{name}.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ScenarioError, match="not those of this job"):
        job.load_arrays()
    file.unlink()
    with pytest.raises(ScenarioError, match="not those of this job"):
        job.load_arrays()


def test_phones_that_are_recipes_survive_a_round_trip(tmp_path):
    path, plain, arrays = make_job(tmp_path)
    job = dataclasses.replace(plain, virtual_phones=VirtualPhones(seed=1, share=0.5))
    job.save(path)
    read = Job.load(path)
    assert read == job
    assert read.run_id != plain.run_id
    far = read.load_arrays().phone(10**9)  # beyond the voices, and of no cost before it is called
    own = far.embeddings[: len(far) - len(arrays.background)]
    assert {row.tobytes() for row in own} <= {row.tobytes() for row in arrays.embeddings}


@pytest.mark.parametrize(
    "name", ["embeddings", "labels", "offsets", "background_labels", "validation_embeddings",
             "initial"],
)  # fmt: skip
def test_an_array_with_one_changed_bit_is_refused(tmp_path, name):
    _, job, _ = make_job(tmp_path)
    file = tmp_path / "arrays" / f"{name}.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ScenarioError, match="not those of this job: expected SHA-256"):
        job.load_arrays()


def test_arrays_are_hashed_once_in_a_process_and_again_when_a_file_has_changed(
    tmp_path, monkeypatch
):
    hashed, sha256 = [], PopulationArrays.sha256
    _, job, _ = make_job(tmp_path)
    monkeypatch.setattr(
        PopulationArrays, "sha256", lambda arrays: hashed.append(1) or sha256(arrays)
    )
    for _ in range(3):
        job.load_arrays()
    assert len(hashed) == 1
    file = tmp_path / "arrays" / "labels.npy"
    file.write_bytes(file.read_bytes())
    job.load_arrays()
    assert len(hashed) == 2
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(ScenarioError, match="not those of this job"):
        job.load_arrays()


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_an_array_that_cannot_be_read_is_named(tmp_path, damage):
    _, job, _ = make_job(tmp_path)
    file = tmp_path / "arrays" / "labels.npy"
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        file.write_text("labels")
    with pytest.raises(ScenarioError, match=r"labels\.npy"):
        job.load_arrays()


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values.pop("seed"),
        lambda values: values.update(surplus=1),
        lambda values: values["plan"].update(clip_norm=-1.0),
        lambda values: values["plan"].pop("max_participations"),
        lambda values: values.update(plan="none"),
    ],
)
def test_a_job_file_that_does_not_fit_is_refused(tmp_path, damage):
    path, _, _ = make_job(tmp_path)
    values = json.loads(path.read_text())
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ScenarioError, match=r"no usable job at .*job\.json"):
        Job.load(path)


def test_a_job_that_is_missing_or_no_json_is_refused(tmp_path):
    (tmp_path / "torn.json").write_text('{"seed":')
    for name in ("torn.json", "missing.json"):
        with pytest.raises(ScenarioError, match=name):
            Job.load(tmp_path / name)


def test_every_setting_changes_the_fingerprint_and_places_on_disk_do_not(tmp_path):
    _, job, _ = make_job(tmp_path)
    others = [
        dataclasses.replace(job, seed=6),
        dataclasses.replace(job, noise_entropy="os"),
        dataclasses.replace(job, num_shards=2),
        dataclasses.replace(job, base_sha256="1" * 64),
        dataclasses.replace(job, arrays_sha256="1" * 64),
        asking(job, training=dataclasses.replace(TRAINING.training, local_epochs=3)),
        asking(job, optimizer=dataclasses.replace(TRAINING.optimizer, learning_rate=0.4)),
        with_plan(job, noise_multiplier=0.9),
        with_plan(job, min_reporting=9),
        asking(job, example_privacy=CLIPS),
        asking(job, example_privacy=dataclasses.replace(CLIPS, delta=1e-6)),
    ]
    assert len({other.fingerprint for other in [job, *others]}) == len(others) + 1
    moved = dataclasses.replace(job, arrays="/elsewhere", simulation_only="/eye")
    assert moved.fingerprint == job.fingerprint


def test_clips_are_hidden_by_secrets_of_phone_round_and_attempt(tmp_path):
    _, plain, _ = make_job(tmp_path)
    assert "example_privacy" not in plain._settings()  # not used, it changes no run
    job = asking(plain, example_privacy=CLIPS)
    drawn = {
        job.phone_rng(job.round_key(number, attempt), phone).bytes(16)
        for number in range(3) for attempt in range(2) for phone in range(4)
    }  # fmt: skip
    assert len(drawn) == 24
    again = dataclasses.replace(job, num_shards=job.num_shards)
    assert again.phone_rng(job.round_key(2, 1), 3).bytes(16) in drawn
    secret = dataclasses.replace(job, noise_entropy="os")
    key = secret.round_key(0)
    assert secret.phone_rng(key, 0).bytes(16) != secret.phone_rng(key, 0).bytes(16)
    # Nothing that is drawn tells the state: there is none.
    assert not hasattr(secret.phone_rng(key, 0).bit_generator, "state")
    assert dataclasses.replace(secret, query=plain.query).phone_rng(key, 0).bit_generator.state


def test_shards_partition_the_population_evenly(tmp_path):
    _, job, _ = make_job(tmp_path)
    for shards in range(1, 2 * PHONES):  # more shards than phones leave some empty
        split = dataclasses.replace(job, num_shards=shards)
        parts = [split.shard_phones(shard) for shard in range(shards)]
        assert [phone for part in parts for phone in part] == list(range(PHONES))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_phone_refuses_a_round_of_another_job_plan_or_source(tmp_path, monkeypatch):
    _, job, _ = make_job(tmp_path)
    key = job.round_key(2)
    check_key(job, key)
    with pytest.raises(ProtocolAbort, match="round 3: the server's job"):
        check_key(with_plan(job, clip_norm=0.3), key)
    with pytest.raises(ProtocolAbort, match="round 4: the server"):
        check_key(job, dataclasses.replace(key, round=3))
    monkeypatch.setattr(job_module, "source_sha256", lambda: "another")
    with pytest.raises(ProtocolAbort, match="source code"):
        check_key(job, key)


def test_the_source_digest_covers_all_three_packages_and_every_byte(tmp_path, monkeypatch):
    for package in source.SOURCE_PACKAGES:
        (tmp_path / package / "deep").mkdir(parents=True)
        (tmp_path / package / "deep" / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(source.resources, "files", lambda package: tmp_path / package)
    digest = source.source_sha256.__wrapped__
    seen = {digest()}
    for package in source.SOURCE_PACKAGES:
        (tmp_path / package / "deep" / "a.py").write_text("x = 2\n")
        seen.add(digest())
    (tmp_path / "server" / "deep" / "a.py").rename(tmp_path / "server" / "a.py")
    seen.add(digest())
    (tmp_path / "server" / "notes.txt").write_text("no code")
    assert digest() in seen
    (tmp_path / "fedspeech" / "schema.json").write_text("{}")
    seen.add(digest())
    assert len(seen) == 6


def test_rounds_rotate_by_their_own_seed_and_attempts_have_their_own_rid(tmp_path):
    _, job, _ = make_job(tmp_path)
    keys = [job.round_key(0), job.round_key(1), job.round_key(0, attempt=1)]
    assert job.round_key(0) == keys[0]
    assert len({key.round_id for key in keys}) == len({rotation_seed(key) for key in keys}) == 3
    fresh = dataclasses.replace(job, noise_entropy="os")
    assert fresh.round_key(0).round_id != fresh.round_key(0).round_id


def test_saving_the_same_arrays_twice_keeps_the_first_and_prints_no_value(tmp_path):
    arrays = make_arrays()
    arrays.save(tmp_path / "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getpid", lambda: 1)  # another process that was as fast
        arrays.save(tmp_path / "a")
    assert PopulationArrays.load(tmp_path / "a").sha256() == arrays.sha256()
    assert repr(arrays).startswith("PopulationArrays(voices=60, embeddings=(")


def test_a_masked_session_is_named_by_all_that_it_belongs_to(tmp_path):
    """Whatever id a server gives its rounds, what phones sign in one session fits no other."""
    _, job, _ = make_job(tmp_path, secure_aggregation="masked")
    round_id = bytes(16)

    def named(job, number=0, attempt=0, session=0):
        context = job.context(number, attempt, round_id)
        key = RoundKey(round=number, attempt=attempt, round_id=round_id, context=context)
        return job.terms(key, session).round_id

    names = [
        named(job), named(job, number=1), named(job, attempt=1), named(job, session=1),
        named(dataclasses.replace(job, seed=6)), named(with_plan(job, noise_multiplier=1.1)),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert named(job) == names[0]
