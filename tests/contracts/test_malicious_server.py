"""A server that lies, against the phones' real app: what phones answer, when, and how often."""

import contextlib
import copy
import dataclasses
import os
import threading

import numpy as np
import pytest
from killed import in_child
from malicious_server import EVERY_TYPE, ROUTES, MaliciousGrid, Refused, first_model, made_up
from secagg_sessions import CheckedOnce
from tiny_job import make_job
from whole_runs import run_through

import clients.durable_state
from clients.client_shard import ClientShard
from clients.durable_state import DurableState
from clients.permissions import PERMISSIONS, require_permission
from clients.state import ShardState
from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.job import Job, model_sha256
from fedspeech.messages import (
    AdvertiseRequest,
    AgreeRequest,
    CohortListNotice,
    CohortListRequest,
    MaskRequest,
    RoundKey,
    ShareRequest,
    UnmaskRequest,
    UpdateRequest,
)
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.encoding import from_ring
from fedspeech.privacy.ledger import Ledger
from fedspeech.secagg.refusals import KINDS, BadSignature

MASKED = {"secure_aggregation": "masked", "rounds": 2, "max_participations": 2}
CENTRAL = {"mechanism": "central", "noise_multiplier": 1.0}
IN_SESSION = (CohortListNotice, ShareRequest, MaskRequest, AgreeRequest, UnmaskRequest)


def run(folder, lie, **settings):
    """All rounds of a small job under a malicious server; returns records and job."""
    path, job, arrays = make_job(folder, **{**MASKED, **settings})
    ledger = Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with MaliciousGrid(path, lie) as grid:
        records, _ = run_through(grid, job, arrays, ledger)
        lie(grid, None)
    assert [record.status for record in records] == ["completed"] * job.plan.rounds
    return records, job


def lasting(folder, **settings):
    """A job whose phones have a memory on disk; returns its path and itself."""
    path, job, _ = make_job(folder, **{"num_shards": 1, **settings})
    job = dataclasses.replace(job, durable_state=str(folder / "phones"))
    job.save(path)
    return path, job


def simulated_sum(grid, key, context=None):
    """Asks one shard for everything that a simulated sum takes."""
    joined = grid.ask(CohortListRequest(key=key), context=context).phones
    request = UpdateRequest(key=key, cohort_list=joined, **first_model(grid.job))
    return grid.ask(request, context=context)


@pytest.fixture(autouse=True)
def every_phone_computes_for_itself(monkeypatch):
    """Under attack nothing that phones agree on may come from another phone of the process."""
    primitives = CheckedOnce()
    monkeypatch.setattr(Job, "primitives", lambda job: primitives)


# What a plan permits.


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="noise of phones"),
        pytest.param(CENTRAL, id="noise of the server", marks=pytest.mark.adversarial),
    ],
)
def test_phones_of_a_masked_plan_never_send_a_vector_without_its_mask(
    tmp_path, monkeypatch, changes
):
    """Before every stage of a session: a cohort list, then an update, of a forged round."""
    own, real = [], ClientShard.blocks

    def blocks(client_shard, request, phones):
        for some, encoded in real(client_shard, request, phones):
            own.extend(encoded)
            yield some, encoded

    monkeypatch.setattr(ClientShard, "blocks", blocks)
    tried = []

    def lie(grid, request):
        for number in range(2):
            key = grid.job.round_key(number)
            for shard in range(grid.job.num_shards):
                joined = np.array(grid.job.shard_phones(shard))[:4]
                with contextlib.suppress(Refused):
                    joined = grid.ask(CohortListRequest(key=key), shard).phones
                everybody = np.union1d(joined, np.arange(grid.job.plan.population))
                for cohort_list in (joined, everybody):
                    tried.append(type(request))
                    asked = UpdateRequest(key=key, cohort_list=cohort_list, **first_model(grid.job))
                    with pytest.raises(Refused, match="a phone never answers UpdateRequest"):
                        grid.ask(asked, shard)

    records, _ = run(tmp_path, lie, rounds=1, max_participations=1, num_shards=2, **changes)
    assert len(set(tried)) == 8  # counts, the six stages, and the end
    assert len(own) == sum(record.reporting for record in records)  # asked by honest rounds alone


@pytest.mark.parametrize("secure_aggregation", ["masked", "ideal"])
def test_a_message_that_has_no_permission_is_refused(tmp_path, secure_aggregation):
    """Whatever is added to the protocol is refused until it has a row."""
    _, job, _ = make_job(tmp_path, secure_aggregation=secure_aggregation)

    class NewRequest(messages.CountsRequest):
        pass

    for request in (NewRequest(), messages.Counts(shard=0, num_shards=1, num_phones=2), None):
        with pytest.raises(ProtocolAbort, match="a phone never answers"):
            require_permission(request, job.plan)
    assert set(PERMISSIONS) == set(ROUTES)


EVERY_PLAN = [
    {"secure_aggregation": way, "mechanism": mechanism, **more}
    for way in ("masked", "ideal")
    for mechanism, more in (
        ("distributed", {}),
        ("skellam", {"participation": "fixed_size"}),
        ("skellam", {"participation": "round_robin"}),
        ("central", {"cohort_cap": 40}),
        ("none", {"noise_multiplier": 0.0, "epsilon_budget": float("inf")}),
        ("local", {}),
    )
    if (way, mechanism) != ("masked", "local")  # a plan that cannot be made
]


def permitted(plan, request):
    """What phones of a plan answer while the honest server is about to send a request.

    Written without the table: requests of the kind of sum that the plan has, in their order, a
    further start of the round until its vectors are out, and how many phones there are.
    """
    allowed = {messages.CountsRequest, type(request)}
    if plan.secure_aggregation == "masked":
        opening, out = AdvertiseRequest, (AgreeRequest, UnmaskRequest)
    else:
        opening, out = CohortListRequest, ()
    begun = isinstance(request, (UpdateRequest, *IN_SESSION))
    return allowed | ({opening} if begun and not isinstance(request, out) else set())


@pytest.mark.adversarial
@pytest.mark.parametrize("plan", EVERY_PLAN, ids=lambda plan: "-".join(map(str, plan.values())))
def test_every_message_in_every_stage_under_every_plan(tmp_path, plan):
    """Each to every route of the app, and to routes that it does not have."""
    sent, stages = [], []
    routes = [route for route, _ in ROUTES.values()] + [
        "query.histogram",
        "train.plain",
        "evaluate",
    ]

    def lie(grid, request):
        if request is None or isinstance(request, messages.CountsRequest):
            return
        stages.append(type(request))
        allowed = permitted(grid.job.plan, request)
        for kind in EVERY_TYPE:
            asked = made_up(kind, grid.job, request.key)
            if kind is type(request):
                asked = request
            elif kind is AdvertiseRequest:
                asked = dataclasses.replace(asked, session=1)
            elif kind is CohortListRequest:
                asked = CohortListRequest(key=grid.job.round_key(request.key.round, attempt=1))
            for route in routes:
                sent.append(kind)
                right = kind in ROUTES and ROUTES[kind][0] == route
                with grid.forked():
                    if right and kind in allowed:
                        assert isinstance(grid.ask(asked, route=route), ROUTES[kind][1])
                        continue
                    before = grid.remembered
                    with pytest.raises(Refused):
                        grid.ask(asked, route=route)
                    assert grid.remembered == before

    run(tmp_path, lie, num_shards=1, rounds=1, max_participations=1, **plan)
    assert len(set(sent)) == len(EVERY_TYPE) == 18
    assert len(stages) == (6 if plan["secure_aggregation"] == "masked" else 2)


# What the memory permits.


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"secure_aggregation": "masked"}], ids=["ideal", "masked"]
)
def test_runs_side_by_side_on_one_memory_answer_a_round_once_and_keep_the_participation_limit(
    tmp_path, settings
):
    path, job = lasting(
        tmp_path, participation_probability=1.0, max_participations=2, rounds=3, **settings
    )
    opening = AdvertiseRequest if settings else CohortListRequest
    answered = []
    with MaliciousGrid(path) as grid:
        runs = [grid.context_of_another_run(run_id=number) for number in range(4)]
        for number in range(job.plan.rounds):
            for context in runs:
                key = job.round_key(number)
                if not settings:
                    with contextlib.suppress(Refused):
                        answered += simulated_sum(grid, key, context).reporting.tolist()
                    continue
                with contextlib.suppress(Refused):
                    request = made_up(opening, job, key)
                    answered += grid.ask(request, context=context).phones.tolist()
    times = 2 if not settings else 3  # keys cost no participation limit
    assert answered == list(range(60)) * times


def test_runs_side_by_side_may_not_go_on_with_each_others_rounds(tmp_path):
    """Run B enters round 1 while run A is in round 0: the later state wins, and A is over."""
    path, job = lasting(tmp_path)
    with MaliciousGrid(path) as grid:
        a, b = (grid.context_of_another_run(run_id=number) for number in (1, 2))
        joined = grid.ask(CohortListRequest(key=job.round_key(0)), context=a).phones
        late = UpdateRequest(key=job.round_key(0), cohort_list=joined, **first_model(job))
        assert len(simulated_sum(grid, job.round_key(1), b).reporting)
        with pytest.raises(Refused, match="not the session that these phones are in"):
            grid.ask(late, context=a)
        with pytest.raises(Refused, match="a replayed request"):
            simulated_sum(grid, job.round_key(0), b)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["lasting", "of the process"])
def test_no_older_copied_or_foreign_context_gets_a_second_answer(tmp_path, memory):
    """At every stage of a session: the honest request again, under each context there was."""
    folder = str(tmp_path / "phones") if memory == "lasting" else ""
    older, tried = [], []

    def lie(grid, request):
        if isinstance(request, IN_SESSION):
            current = copy.deepcopy(grid.contexts[0])
            for context in (*older, grid.context_of_another_run()):
                tried.append(type(request))
                with pytest.raises(Refused, match="not the one that its phones answered last"):
                    grid.ask(request, context=context)
            with grid.forked():
                grid.ask(request, context=current)  # a true copy is the phones themselves, once
                for context in (current, copy.deepcopy(grid.contexts[0])):
                    with pytest.raises(Refused, match="no second answer"):
                        grid.ask(request, context=context)
        older.append(copy.deepcopy(grid.contexts[0]))

    path, job, arrays = make_job(tmp_path, **MASKED, num_shards=1)
    job = dataclasses.replace(job, durable_state=folder)
    job.save(path)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with MaliciousGrid(path, lie) as grid:
        records, _ = run_through(grid, job, arrays, ledger)
    assert [record.status for record in records] == ["completed"] * 2
    assert set(tried) == set(IN_SESSION)


@pytest.mark.parametrize(
    "secure_aggregation", [pytest.param("masked", marks=pytest.mark.slow), "ideal"]
)
def test_a_session_goes_on_as_the_round_that_was_entered_and_as_no_other(
    tmp_path, secure_aggregation
):
    """At every stage: another round, attempt, id or session, each with the context that fits it."""
    tried = []

    def other_keys(job, key):
        yield job.round_key(key.round + 1)
        yield job.round_key(99)
        yield job.round_key(key.round, attempt=7)
        round_id = os.urandom(16)
        fits = job.context(key.round, key.attempt, round_id)
        yield dataclasses.replace(key, round_id=round_id, context=fits)
        yield dataclasses.replace(key, context=os.urandom(32))
        other = dataclasses.replace(job, seed=job.seed + 1)  # another job of the same phones
        yield dataclasses.replace(key, context=other.context(key.round, key.attempt, key.round_id))

    def lie(grid, request):
        if not isinstance(request, (UpdateRequest, *IN_SESSION)):
            return
        changed = [
            dataclasses.replace(request, key=key) for key in other_keys(grid.job, request.key)
        ]
        if isinstance(request, IN_SESSION):
            changed += [dataclasses.replace(request, session=session) for session in (1, 7)]
        for asked in changed:
            tried.append(type(request))
            before = grid.remembered
            with pytest.raises(Refused, match=r"not the session that|is not this phone's"):
                grid.ask(asked)
            assert grid.remembered == before

    run(tmp_path, lie, secure_aggregation=secure_aggregation, num_shards=1)
    assert set(tried) == (set(IN_SESSION) if secure_aggregation == "masked" else {UpdateRequest})


def test_advertisements_of_one_round_do_not_pad_the_cohort_list_of_another(tmp_path):
    """The server gives two rounds one id, and lists in the second who joined the first alone."""
    path, job = lasting(tmp_path, **MASKED, noise_entropy="os")

    def opening(number):
        round_id = bytes(16)
        key = RoundKey(
            round=number, attempt=0, round_id=round_id, context=job.context(number, 0, round_id)
        )
        return AdvertiseRequest(key=key, session=0)

    def notice(*parts):
        phones = np.concatenate([part.phones for part in parts])
        order = np.argsort(phones)
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])[order]
            for name in ("seal_keys", "mask_keys", "commitments", "signatures")
        }
        return CohortListNotice(
            key=opening(1).key, session=0, model_sha256=model_sha256(**first_model(job)),
            phones=phones[order], **columns,
        )  # fmt: skip

    with MaliciousGrid(path) as grid:
        old, new = grid.ask(opening(0)), grid.ask(opening(1))
        gone = ~np.isin(old.phones, new.phones)
        assert gone.any()
        columns = ("phones", "seal_keys", "mask_keys", "commitments", "signatures")
        old = dataclasses.replace(old, **{name: getattr(old, name)[gone] for name in columns})
        with grid.forked():
            assert len(grid.ask(notice(new)).phones) == len(new.phones)
        padded = grid.ask(notice(new, old))
    assert len(padded.phones) == 0
    assert padded.refused[KINDS.index(BadSignature)] == len(new.phones)


@pytest.mark.parametrize("mechanism", ["none", pytest.param("distributed", marks=pytest.mark.slow)])
def test_no_model_makes_a_phone_stay_away_or_send_more_than_its_bound(tmp_path, mechanism):
    """Values at the edge of the floats: who answers must not depend on what a phone has learned."""
    models = (3e38, -1e20, 1e-45, [3e38, -3e38])
    noise = {"noise_multiplier": 0.0, "epsilon_budget": float("inf")} if mechanism == "none" else {}
    path, job = lasting(tmp_path, rounds=4, max_participations=4, mechanism=mechanism, **noise)
    with MaliciousGrid(path) as grid:
        for number, value in enumerate(models):
            key = job.round_key(number)
            joined = grid.ask(CohortListRequest(key=key)).phones
            adapter = np.resize(np.array(value, np.float32), job.plan.dimension)
            request = UpdateRequest(
                key=key, cohort_list=joined, model=adapter, clip_norm=job.plan.clip_norm
            )
            answer = grid.ask(request)
            np.testing.assert_array_equal(answer.reporting, joined)
            if mechanism == "none":
                length = np.linalg.norm(from_ring(answer.total, job.plan.bits).astype(float))
                assert length <= len(joined) * job.plan.sensitivity


ADAPTIVE = AdaptiveClipping(
    target_quantile=0.3, bit_noise=0.5, min_clip_norm=0.01, max_clip_norm=4.0
)


@pytest.mark.parametrize(
    ("settings", "clip_norms"),
    [
        ({}, [0.2001, 0.1999, 1e9, 5e-324]),
        ({"adaptive_clipping": ADAPTIVE}, [0.0099, 4.0001, 1e9, 5e-324]),
    ],
    ids=["fixed", "adaptive"],
)
def test_phones_clip_to_no_norm_but_their_plans(tmp_path, settings, clip_norms):
    path, job = lasting(tmp_path, **settings)
    with MaliciousGrid(path) as grid:
        joined = grid.ask(CohortListRequest(key=job.round_key(0))).phones
        request = UpdateRequest(key=job.round_key(0), cohort_list=joined, **first_model(job))
        before = grid.remembered
        for clip_norm in clip_norms:
            with pytest.raises(Refused, match="does not clip to"):
                grid.ask(dataclasses.replace(request, clip_norm=clip_norm))
        for clip_norm in (float("inf"), float("nan"), -0.2, 0.0):
            sent = dataclasses.replace(request)
            object.__setattr__(sent, "clip_norm", clip_norm)
            with pytest.raises(Refused, match="must be a positive number"):
                grid.ask(sent)
        assert grid.remembered == before
        assert len(grid.ask(request).reporting) == len(joined)


def test_rounds_before_the_first_and_beyond_the_plan_are_not_entered(tmp_path):
    path, job = lasting(tmp_path)
    with MaliciousGrid(path) as grid:
        for number, words in ((job.plan.rounds, "beyond the plan"), (99, "beyond the plan")):
            with pytest.raises(Refused, match=words):
                grid.ask(CohortListRequest(key=job.round_key(number)))
        request = CohortListRequest(key=job.round_key(0))
        object.__setattr__(request.key, "round", -1)
        with pytest.raises(Refused, match=r"round must be an integer in \[0"):
            grid.ask(request)
        assert not grid.remembered


@pytest.mark.slow
def test_nothing_is_answered_that_could_not_be_remembered(tmp_path, monkeypatch):
    """A disk that is full at the moment of every write: no reply, at no stage."""
    tried = []

    def lie(grid, request):
        if request is None or isinstance(request, messages.CountsRequest):
            return

        def full(self, *_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(clients.durable_state.DurableState, "write", full)
            with pytest.raises(Refused, match="OSError in this shard; its text stays here"):
                grid.ask(request)
        tried.append(type(request))

    run(tmp_path, lie, num_shards=1)
    assert len(set(tried)) == 6


@pytest.mark.slow
def test_a_stage_is_on_disk_when_its_answer_exists(tmp_path, monkeypatch):
    """Whatever Flower does with answer and context afterwards, and in whichever order."""
    path, job = lasting(tmp_path, **MASKED)
    seen, real = [], clients.app.to_record

    def to_record(message):
        if not isinstance(message, messages.Counts):
            kept = DurableState(tmp_path / "phones", 0).read()
            state = ShardState.from_bytes(kept, job.fingerprint)
            seen.append((type(message), state.history.stage, state.key))
        return real(message)

    monkeypatch.setattr(clients.app, "to_record", to_record)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with MaliciousGrid(path) as grid:
        run_through(grid, job, job.load_arrays(), ledger)
    stages = [stage for _, stage, _ in seen]
    assert stages == [1, 2, 3, 4, 5, 6] * 2
    assert [key for _, _, key in seen] == [job.round_key(0)] * 6 + [job.round_key(1)] * 6


def test_phones_without_a_memory_answer_nothing_but_how_many_they_are(tmp_path):
    path, job, _ = make_job(tmp_path, num_shards=1)
    with MaliciousGrid(path) as grid:
        context = grid.context_of_another_run()
        del context.node_config["durable_state"]
        assert grid.ask(messages.CountsRequest(), context=context).num_phones == 60
        with pytest.raises(Refused, match="without durable state answer nothing"):
            grid.ask(CohortListRequest(key=job.round_key(0)), context=context)


def test_a_memory_that_holds_nothing_is_damaged_and_not_new(tmp_path):
    """A power cut may leave an empty file of a system that does not sync as it says."""
    path, job = lasting(tmp_path)
    with MaliciousGrid(path) as grid:
        simulated_sum(grid, job.round_key(0))
        for file in grid.remembered:
            file.write_bytes(b"")
        with pytest.raises(Refused, match="is damaged"):
            grid.ask(CohortListRequest(key=job.round_key(0)))


def test_phones_of_another_job_do_not_share_a_memory(tmp_path):
    path, job = lasting(tmp_path)
    with MaliciousGrid(path) as grid:
        grid.ask(CohortListRequest(key=job.round_key(0)))
    other = dataclasses.replace(job, plan=dataclasses.replace(job.plan, rounds=2))
    other.save(path)
    with MaliciousGrid(path) as grid, pytest.raises(Refused, match="belongs to job"):
        grid.ask(CohortListRequest(key=other.round_key(1)))


# At the same time.


def at_once(asks):
    """Runs functions in threads of their own that begin together; returns how many answered."""
    barrier, answered, refused = threading.Barrier(len(asks)), [], []

    def work(ask):
        barrier.wait()
        try:
            answered.append(ask())
        except Refused as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) + len(refused) == len(asks)
    return answered


@pytest.mark.slow
def test_threads_that_ask_at_once_get_one_answer_at_every_stage(tmp_path):
    tried = []

    def lie(grid, request):
        if request is None or isinstance(request, messages.CountsRequest):
            return
        with grid.forked():
            contexts = [copy.deepcopy(grid.contexts[0]) for _ in range(4)]
            asks = [lambda one=one: grid.ask(request, context=one) for one in contexts]
            assert len(at_once(asks)) == 1
        tried.append(type(request))

    run(tmp_path, lie, num_shards=1, rounds=1, max_participations=1)
    assert len(tried) == 6


def test_processes_that_ask_at_once_get_one_answer(tmp_path):
    """Two nodes on one memory, each in a process of its own, as Flower starts one a message."""
    path, job = lasting(tmp_path)
    left = tmp_path / "answered"
    left.mkdir()
    with MaliciousGrid(path) as grid:
        joined = grid.ask(CohortListRequest(key=job.round_key(0))).phones
        request = UpdateRequest(key=job.round_key(0), cohort_list=joined, **first_model(job))

        def both():
            other = os.fork()
            with contextlib.suppress(Refused):
                total = grid.ask(request, context=grid.context_of_another_run()).total
                (left / str(os.getpid())).write_bytes(total.tobytes())
            if other == 0:
                os._exit(0)
            os.waitpid(other, 0)

        assert in_child(both) == 0
    assert len(list(left.iterdir())) == 1
