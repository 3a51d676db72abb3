"""Every way out of a round stands in one table, with a probability that it does not exceed."""

import ast
import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import pytest
from round_exits import EXITS
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.privacy.events import RoundCost
from fedspeech.privacy.failure_probabilities import EVENTS, probabilities, totals
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.dropouts import share_answering, share_gone, tolerated_share
from fedspeech.secagg.graph import ring_graph
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.primitives import SharedPrimitives
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.session import sum_vectors

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("server", "clients")
MODULES = (
    "client",
    "phone_state",
    "server",
    "exchange",
    "unmasking",
)  # of fedspeech.secagg: what phone and server do


# --- The table ------


def exits(source, module):
    """Raised exceptions, and handlers that go on another way: "module function exception"."""
    found = set()

    def visit(node, within):
        for child in ast.iter_child_nodes(node):
            inside = within
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = [*within, child.name]
            elif isinstance(child, ast.Raise):
                raised = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
                what = "again" if raised is None else ast.unparse(raised)
                found.add(f"{module} {'.'.join(within)} {what}")
            elif isinstance(child, ast.ExceptHandler) and not any(
                isinstance(part, ast.Raise) for part in ast.walk(child)
            ):
                found.add(f"{module} {'.'.join(within)} except {ast.unparse(child.type)}")
            visit(child, inside)

    visit(ast.parse(source), [])
    return found


def protocol_exits():
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).glob("*.py"))]
    files += [ROOT / "fedspeech" / "secagg" / f"{name}.py" for name in MODULES]
    modules = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return set().union(*(exits(file.read_text(), module) for file, module in modules.items()))


NAMED = [exit_ for exits_ in EXITS.values() for exit_ in exits_]


def test_every_exit_of_server_and_clients_is_in_the_table():
    missing = sorted(protocol_exits() - set(NAMED))
    assert not missing, "say which of failure_probabilities.EVENTS explains these, or add one"
    assert set(EXITS) <= {event.name for event in EVENTS}


def test_the_table_names_no_exit_twice_and_none_that_is_gone():
    assert len(NAMED) == len(set(NAMED))
    assert sorted(set(NAMED) - protocol_exits()) == []


def test_a_new_way_out_of_a_round_is_found():
    source = (ROOT / "server" / "gathering.py").read_text()
    for old, new in (
        ("raise Abandoned(failed)", "raise Impatient(failed)"),
        ("except NoncesMissing:", "except TooSlow:"),
    ):
        assert old in source
        found = exits(source.replace(old, new), "server.gathering")
        assert len(found - set(NAMED)) == 1


def test_an_event_has_a_probability_or_the_reason_why_it_has_none():
    fields = {field.name for field in dataclasses.fields(RoundCost)}
    for event in EVENTS:
        has_one = event.minimum is not None or event.probability is not None
        assert has_one == bool(event.counted)
        assert bool(event.reason) == (not has_one)
        assert event.counted in fields | {""}


# --- Rings ------

LOSSY = PrivacyPlan(
    dimension=50, clip_norm=1.0, noise_multiplier=4.0, population=2310,
    participation_probability=0.1, rounds=40, max_participations=15, min_cohort=130,
    min_reporting=90,
    dropout_rate=0.2, delta=1 / 23_100, epsilon_budget=1e6, secure_aggregation="masked",
    threat_model="semi_honest",
)  # fmt: skip


def pieces(graph, alive):
    """Sizes of the parts into which those who are alive fall."""
    start = np.repeat(np.arange(len(alive)), graph.neighbors.shape[1])
    end = graph.neighbors.ravel()
    kept = alive[start] & alive[end]
    edges = coo_matrix((np.ones(kept.sum()), (start[kept], end[kept])), shape=(len(alive),) * 2)
    _, part = connected_components(edges, directed=False)
    sizes = np.bincount(part[alive])
    return sizes[sizes > 0]


def small_pieces(plan, terms, cohort_lists, seed):
    """How many cohort lists show an honest server a sum of fewer phones than the plan's minimum.

    All who vanish do so after their shares, as where a deadline is what stops them.
    """
    rng, shown = np.random.default_rng(seed), 0
    for number in range(cohort_lists):
        n = rng.binomial(plan.population, plan.participation_probability)
        found = terms.parameters(n)
        alive = rng.random(n) < 1 - plan.dropout_rate
        if found.complete or n < plan.min_cohort or alive.sum() < terms.quorum(n):
            continue
        ring = ring_graph(np.arange(n), number.to_bytes(32, "big"), found.neighbors)
        shown += bool((pieces(ring, alive) < plan.min_reporting).any())
    return shown


def cohort_lists_in_pieces(plan, careless, cohort_lists):
    """Cohort lists in pieces under the plan's own tolerance, and under one that is too small."""
    terms = plan.terms(bytes(16), 0)
    other = dataclasses.replace(terms, dropped_share=careless)
    return [small_pieces(plan, each, cohort_lists, seed=1) for each in (terms, other)]


@pytest.mark.slow
def test_no_ring_falls_into_pieces_under_the_plans_own_drop_outs():
    """A tolerance that knew nothing of them, 0.02, left 1 of 12 cohort lists of 200 in pieces."""
    own, careless = cohort_lists_in_pieces(LOSSY, 0.02, 200)
    assert own == 0
    assert careless > 10
    calm = dataclasses.replace(LOSSY, dropout_rate=0.1, population=4000, delta=1 / 40_000)
    assert not calm.terms(bytes(16), 0).parameters(400).complete
    own, careless = cohort_lists_in_pieces(calm, 0.0, 200)
    assert own == 0
    assert careless > 10


@pytest.mark.adversarial
def test_no_ring_of_1500_falls_into_pieces():
    own, careless = cohort_lists_in_pieces(LOSSY, 0.02, 1500)
    assert own == 0
    assert careless > 100


@pytest.mark.parametrize("rate", [0.01, 0.04, 0.1, 0.2, 0.28])
@pytest.mark.parametrize("smallest", [129, 210, 700])
def test_a_tolerance_holds_on_every_cohort_list_from_the_smallest_on(rate, smallest):
    from scipy.stats import binom

    tolerated = tolerated_share(rate, smallest, 61)
    for n in (smallest, smallest + 1, 2 * smallest, 10 * smallest):
        assert binom.sf(int(tolerated * n), n, rate) <= 2.0**-61
    assert tolerated_share(rate, smallest, 31) < tolerated
    assert tolerated_share(rate, 2 * smallest, 61) < tolerated


def test_a_tolerance_holds_where_phones_are_not_alike():
    """A quarter is late four times as often: the mean decides, and unequal coins spread less."""
    rng = np.random.default_rng(3)
    rates = np.where(np.arange(200) < 50, 0.16, 0.0)
    tolerated = tolerated_share(0.04, 200, 10)
    gone = (rng.random((20_000, 200)) < rates).sum(axis=1)
    assert (gone > tolerated * 200).mean() <= 2.0**-10


def test_the_tolerance_is_the_plans_and_follows_its_drop_outs():
    for rate, threat_model in ((0.02, "semi_honest"), (0.1, "semi_honest"), (0.1, "malicious")):
        plan = dataclasses.replace(LOSSY, dropout_rate=rate, threat_model=threat_model)
        bits = 61 if threat_model == "semi_honest" else 31
        assert plan.dropout_tolerance == tolerated_share(share_gone(rate), 130, bits)
        assert plan.terms(bytes(16), 0).dropped_share == plan.dropout_tolerance
        assert plan.dropout_tolerance > rate
    with pytest.raises(ValueError, match="more than half and colluders must be there at the end"):
        dataclasses.replace(LOSSY, dropout_rate=0.4, min_reporting=60)


def test_where_a_ring_could_lose_more_than_a_quorum_everybody_is_a_neighbor():
    terms = LOSSY.terms(bytes(16), 0)
    for n in (130, 160):
        assert int(terms.dropped_share * n) > terms.spare(n)
        assert terms.parameters(n).complete
    calm = dataclasses.replace(LOSSY, dropout_rate=0.02).terms(bytes(16), 0)
    assert not calm.parameters(160).complete


# --- Rounds ------


def random_plan(rng):
    """A plan that is not refused, with minimums near enough that they decide rounds."""
    while True:
        expected = float(rng.uniform(12, 40) if rng.random() < 0.95 else rng.uniform(190, 210))
        probability = float(rng.choice([0.1, 0.3, 0.6]))
        rate, colluders = float(rng.uniform(0, 0.25)), int(rng.integers(0, 4))
        min_cohort = max(2, int(rng.uniform(0.55, 0.75) * expected))
        try:
            return PrivacyPlan(
                dimension=6, clip_norm=1.0, noise_multiplier=float(rng.uniform(3, 9)),
                population=int(expected / probability), participation_probability=probability,
                rounds=int(rng.integers(1, 30)), max_participations=30, min_cohort=min_cohort,
                min_reporting=max(colluders + 1, int(rng.uniform(0.6, 0.95) * min_cohort)),
                colluders=colluders, dropout_rate=rate, epsilon_budget=1e9,
                delta=1 / (10 * int(expected / probability)),
                secure_aggregation=str(rng.choice(["masked", "masked", "ideal"])),
                threat_model=str(rng.choice(["malicious", "semi_honest"])),
            )  # fmt: skip
        except ValueError:
            continue


class Ways:
    """How rounds of a plan end, from how many answer each stage."""

    def __init__(self, plan):
        self.plan, self.terms = plan, plan.terms(bytes(16), 0)
        self.parameters = functools.cache(self.terms.parameters)

    def way_out(self, counts):
        """The stage at which a round ends, or "" if it opens; `counts` by stage."""
        plan, cohort_list = self.plan, counts[Stage.ADVERTISE]
        if cohort_list < plan.min_cohort:
            return "advertise"
        if plan.secure_aggregation == "ideal":
            return "" if counts[Stage.MASK] >= plan.min_reporting else "mask"
        if not self.parameters(cohort_list).complete and counts[Stage.ACCEPT] < cohort_list:
            cohort_list = counts[Stage.ACCEPT]
            if cohort_list < plan.min_cohort:
                return "advertise"
        graph, unmasking = self.parameters(cohort_list), counts[Stage.UNMASK]
        if counts[Stage.SHARE] < plan.min_reporting:
            return "share"
        # A phone that finds too few neighbors among the sharers leaves.
        alone = graph.complete and counts[Stage.SHARE] - 1 < graph.threshold
        if alone or counts[Stage.MASK] < plan.min_reporting:
            return "mask"
        if counts[Stage.AGREE] < self.terms.quorum(cohort_list):
            return "agree"
        if graph.complete and unmasking - (unmasking > 0) < graph.threshold:
            return "unmask"
        return ""


def counted(last):
    """How many answer each stage, of phones whose last stages are given; indexed by stage."""
    return [sum(one >= stage for one in last) for stage in Stage]


def decided(plan, rng, rounds):
    """Share of rounds that open with one phone and not without it, colluders at their worst."""
    ways, worst = Ways(plan), 0.0
    answering = np.array([share_answering(plan.dropout_rate, stage) for stage in Stage])
    fates = -np.diff(answering, append=0.0)  # probability that each is the last stage
    honest = plan.population - 1 - plan.colluders
    coming = rng.binomial(honest, plan.participation_probability, rounds)
    reached = rng.multinomial(coming, fates)[:, ::-1].cumsum(axis=1)[:, ::-1]
    for colluders in {0, plan.colluders // 2, plan.colluders}:
        for last in {Stage.UNMASK, Stage.MASK}:
            told = np.array([colluders * (last >= stage) for stage in Stage])
            without, found = (reached + told).tolist(), 0
            for counts in without:
                ends = {ways.way_out(counts), ways.way_out([count + 1 for count in counts])}
                found += "" in ends and len(ends) > 1
            worst = max(worst, found / rounds)
    return worst


ENROLMENT = IdentityDirectory(bytes(32), b"round events", 2400)


def real_way_out(plan, last):
    """The stage at which a real session of phones ends that vanish as told, or ""."""
    vectors = {phone: np.full(6, phone, np.uint32) for phone in range(len(last))}
    terms = dataclasses.replace(plan.terms(bytes(16), 0), dimension=6)
    try:
        opened = sum_vectors(
            vectors, terms=terms, purpose=bytes(32), identities=ENROLMENT,
            last_stage=lambda phone: last[phone], primitives=SharedPrimitives(),
        )  # fmt: skip
    except (ProtocolAbort, CohortTooSmall) as error:
        return str(error).partition(":")[0]
    sent = [phone for phone in vectors if last[phone] >= Stage.MASK]
    assert opened.reporting.ids.tolist() == sent
    return ""


def at_each_minimum(plan):
    """Last stages of phones, so that the first one decides the round at one minimum each."""
    terms = plan.terms(bytes(16), 0)
    rest = plan.min_cohort + 2
    if not terms.parameters(rest).complete:
        yield [Stage.UNMASK] * plan.min_cohort + [Stage.ADVERTISE] * 2
        return  # sessions of so many phones take seconds
    yield [Stage.UNMASK] * plan.min_cohort
    if plan.min_reporting < plan.min_cohort:
        yield [Stage.UNMASK] * plan.min_reporting + [Stage.ACCEPT] * (rest - plan.min_reporting)
        yield [Stage.UNMASK] * plan.min_reporting + [Stage.SHARE] * (rest - plan.min_reporting)
    quorum = terms.quorum(rest)
    yield [Stage.UNMASK] * quorum + [Stage.MASK] * (rest - quorum)
    yield [Stage.UNMASK] * (quorum + 1) + [Stage.AGREE] * (rest - quorum - 1)


def check_plan(plan, rng, rounds):
    """One phone decides no oftener than the plan counts; five standard errors."""
    bound = totals(plan)["minimum_failure"] / plan.participation_probability
    share = decided(plan, rng, rounds)
    assert share <= bound + 5 * np.sqrt(max(share, 1 / rounds) / rounds), (plan, share, bound)


def test_one_phone_decides_no_oftener_than_a_plan_counts():
    rng = np.random.default_rng(4)
    for _ in range(3):
        check_plan(random_plan(rng), rng, 200)


def test_the_minimum_after_a_restart_is_counted():
    """Where a fifth vanishes, it is nearly all that one phone decides; left out once."""
    plan = dataclasses.replace(
        LOSSY, dropout_rate=0.18, threat_model="malicious", min_cohort=170, min_reporting=100,
    )  # fmt: skip
    found = probabilities(plan)
    restart = found["the cohort list of a session that restarts is below min_cohort"]
    assert restart > 5 * found["the cohort list is below min_cohort"]
    rng, rounds, decided_by_it = np.random.default_rng(5), 400_000, 0
    share = share_answering(0.18, Stage.ACCEPT)
    standing = rng.binomial(plan.population - 1, plan.participation_probability * share, rounds)
    decided_by_it = (standing == plan.min_cohort - 1).mean() * plan.participation_probability
    assert restart == pytest.approx(decided_by_it, rel=0.2)
    assert totals(plan)["minimum_failure"] >= restart


def test_a_participation_limit_that_runs_out_is_counted():
    """P[Bin(40, 0.1) > 15], by exact sums; a participation limit for every round never runs out."""
    exact = sum(math.comb(40, k) * 0.1**k * 0.9 ** (40 - k) for k in range(16, 41))
    assert probabilities(LOSSY)["a phone's participation limit runs out"] == pytest.approx(
        exact, rel=1e-9
    )
    every = dataclasses.replace(LOSSY, max_participations=LOSSY.rounds)
    assert "a phone's participation limit runs out" not in probabilities(every)


@pytest.mark.parametrize(
    "plans",
    [pytest.param(25, marks=pytest.mark.adversarial), pytest.param(100, marks=pytest.mark.soak)],
)
def test_random_plans_walk_through_every_exit(plans):
    """Real sessions end where the model says, and no model decides more than a plan counts."""
    rng, seen = np.random.default_rng(6), set()
    for _ in range(plans):
        plan = random_plan(rng)
        check_plan(plan, rng, 1500)
        if plan.secure_aggregation == "ideal":
            continue
        ways = Ways(plan)
        for last in at_each_minimum(plan):
            with_it, without = (
                ways.way_out(counted(fates)) for fates in (last, [Stage.NONE, *last[1:]])
            )
            assert real_way_out(plan, last) == with_it
            assert real_way_out(plan, [Stage.NONE, *last[1:]]) == without
            seen |= {with_it, without}
    assert seen == {"", "advertise", "share", "mask", "agree", "unmask"}
