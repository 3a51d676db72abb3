"""`fedspeech budget`: figures that mean what they say, for people and for programs."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from fedspeech.errors import ScenarioError
from fedspeech.privacy.phrasing import rounded_up
from fedspeech.privacy.plan import PrivacyPlan
from simulations.scenario.reading import read_scenario, scenario_names
from simulations.scenario.schema import AdaptiveClippingSettings, PrivacySettings
from simulations.setup.definition import Experiment
from simulations.setup.planning import PlanSizes, plan_of

CENTRAL = ["--mechanism", "central", "--participation", "poisson"]
PHONES = ["--mechanism", "distributed", "--participation", "poisson"]


@pytest.fixture
def budget(monkeypatch, capfd):
    """Runs the command; returns exit status, stdout and stderr."""
    from simulations import cli

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedspeech", "budget", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return stopped.value.code or 0, out, err

    return run


@pytest.fixture
def document(budget):
    """Runs with --json; returns the object."""

    def run(*arguments):
        status, out, err = budget(*arguments, "--json")
        assert status == 0, err
        return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("population", "how_many", "rounds", "noise", "delta", "rdp", "opacus", "pld"),
    [
        (10_000, ("--probability", 256 / 60_000), 14_062, 1.1, 1e-5, 2.5966, 2.5966, 2.3817),
        (100_000, ("--probability", 0.01), 500, 1.0, 1e-6, 1.9689, 1.9689, 1.5803),
        (1000, ("--probability", 0.064), 300, 1.2, 1e-4, 5.2223, 5.2199, 4.6516),
        (100_000, ("--probability", 1), 8, 4.0, 1e-6, 3.5424, 3.5424, 3.3076),
    ],
)
def test_published_epsilons(document, population, how_many, rounds, noise, delta, rdp, opacus, pld):
    found = document(
        *CENTRAL, "--population", population, *how_many, "--rounds", rounds,
        "--noise-multiplier", noise,
        "--delta", delta, "--min-reporting", 2, "--secure-aggregation", "ideal",
    )  # fmt: skip
    epsilon = found["epsilon_release"]
    assert epsilon["rdp"] == pytest.approx(rdp, abs=1e-3)
    assert epsilon["pld"] == pytest.approx(pld, abs=1e-3)
    assert epsilon["opacus_rdp"] == pytest.approx(opacus, abs=1e-3)
    assert ("prv" in epsilon) == (how_many != ("--probability", 1))
    if "prv" in epsilon:
        assert epsilon["prv"] == pytest.approx(pld, abs=0.02)
    assert found["claim"]["release"] == "pld"
    assert found["epsilon_server"] == {"rdp": "Infinity", "pld": "Infinity"}


def test_the_document_says_everything_that_must_stand_next_to_an_epsilon(document):
    found = document(*PHONES, "--population", 3000, "--probability", 0.1, "--rounds", 40,
                     "--noise-multiplier", 3, "--dimension", 600)  # fmt: skip
    assert set(found["epsilon_release"]) == {"rdp"}
    assert set(found["epsilon_server"]) == {"rdp"}
    assert 0.9 < found["epsilon_release"]["rdp"] < 1
    assert found["delta"] == pytest.approx(1 / 30_000)
    assert found["unit"] == "user"
    assert found["relation"] == {"release": "add/remove", "server": "zero-out"}
    assert found["rounds"] == 40
    assert found["amplified"] == {"release": True, "server": False}
    assert "honest" not in found
    assert "each phone keeps its coin secret" in found["who_must_be_honest"]
    assert found["judgment"]["release"].startswith("strong (")
    assert found["assumed"]
    assert len(found["assumptions"]) >= 8
    assert found["plan"]["bits"] in (16, 24, 32)
    assert found["plan"]["dimension"] == 1024
    text = json.dumps(found)
    assert "null" not in text
    assert "NaN" not in text


def test_a_billion_phones_are_priced_at_once(budget):
    for mechanism, participation in (
        ("central", "poisson"), ("distributed", "poisson"), ("skellam", "fixed_size"),
        ("local", "round_robin"),
    ):  # fmt: skip
        status, out, err = budget(
            "--mechanism", mechanism, "--participation", participation, "--population", 10**9,
            "--cohort", 1000, "--rounds", 500, "--noise-multiplier", 1, "--max-participations", 5,
        )  # fmt: skip
        assert status == 0, err
        assert "delta 1e-10" in out


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["distributed", "central", "local"])
@pytest.mark.parametrize(
    "how_many", [("--probability", 0.1), ("--cohort", 480.0)], ids=["probability", "cohort"]
)
def test_phones_that_are_away_cost_here_what_they_cost_in_a_run(document, mechanism, how_many):
    plan = PrivacyPlan(
        mechanism=mechanism, dimension=772, clip_norm=0.1, noise_multiplier=3.0, population=12_000,
        participation_probability=0.1, rounds=40, max_participations=18, min_cohort=310,
        min_reporting=310,
        colluders=5, dropout_rate=0.06, availability=0.4, delta=1 / 120_000, epsilon_budget=1e3,
        secure_aggregation="ideal" if mechanism == "local" else "masked",
    )  # fmt: skip
    run = plan.guarantee(plan.rounds)
    found = document(
        "--mechanism", mechanism, "--participation", "poisson", "--population", plan.population,
        *how_many, "--rounds", 40, "--noise-multiplier", 3, "--dimension", 772,
        "--min-reporting", 310,
        "--max-participations", 18, "--colluders", 5, "--dropout-rate", 0.06,
        "--availability", 0.4, "--clip-norm", 0.1,
    )  # fmt: skip
    for name in ("release", "server"):
        claimed = found[f"epsilon_{name}"][found["claim"][name]]
        expected = getattr(run, f"epsilon_{name}")
        assert (claimed == "Infinity") == math.isinf(expected)
        if math.isfinite(expected):
            assert claimed == expected
    assert found["relation"] == {"release": run.relation_release, "server": run.relation_server}
    assert found["plan"]["availability"] == 0.4
    assert found["plan"]["cohort"] == pytest.approx(plan.expected_cohort)
    assert found["plan"]["probability"] == pytest.approx(0.1)


def test_phones_that_are_away_bring_floors_nearer_and_that_is_said(budget, document):
    plan = ["--population", 12_000, "--probability", 0.1, "--rounds", 40, "--noise-multiplier", 3]
    there, away = (document(*PHONES, *plan, "--availability", share) for share in (1.0, 0.4))
    assert away["plan"]["min_reporting"] < 0.4 * there["plan"]["min_reporting"]
    assert away["epsilon_release"]["rdp"] > there["epsilon_release"]["rdp"]
    assert "availability" not in there["plan"]
    _, out, _ = budget(*PHONES, *plan, "--availability", 0.4, "--explain")
    said = " ".join(out.split())
    assert "480 of 12,000 phones in each of 40 rounds, where the fewest (0.4 of them)" in said
    assert "At least 40.0% of the population is there whenever a round begins, each phone" in said
    assert "only the coin amplifies" in said
    assert "at least 40.0% of the population is there whenever a round begins, whatever" in said
    assert "everybody is there" not in said
    _, out, _ = budget(*PHONES, *plan)
    assert "everybody is there whenever a round begins (--availability)" in " ".join(out.split())


def test_what_was_assumed_is_said_beside_the_figures_without_being_asked(budget):
    """Each of these would raise epsilon if it did not hold."""
    plan = ["--population", 3000, "--cohort", 300, "--rounds", 40, "--noise-multiplier", 3]
    _, out, _ = budget(*PHONES, *plan)
    said = " ".join(out.split())
    for words in (
        "masked sums (--secure-aggregation)", "16,384 coordinates (--dimension)",
        "(--min-reporting)",
        "no phone in more than 18 rounds (--max-participations)", "nobody drops out",
        "nobody colludes",
    ):  # fmt: skip
        assert words in said
    assert said.count("by accountant: rdp") == 2
    given = ["--dimension", 600, "--min-reporting", 150, "--max-participations", 20,
             "--dropout-rate", 0.1, "--colluders", 2, "--availability", 0.9,
             "--min-cohort", 150, "--secure-aggregation", "masked"]  # fmt: skip
    _, out, _ = budget(*PHONES, *plan, *given)
    assert "Assumed" not in " ".join(out.split())


def test_explain_prints_what_the_figures_stand_on(budget):
    status, out, _ = budget(*PHONES, "--population", 3000, "--cohort", 300, "--rounds", 40,
                            "--noise-multiplier", 3, "--dimension", 600, "--explain")  # fmt: skip
    assert status == 0
    for part in (
        "epsilon_release 0.", "epsilon_server ", "add/remove", "zero-out", "one user",
        "What this stands on", "Who must be honest", "By accountant", "1 / z^2 = 0.111",
        "d / (2 m^2) = 0.0", "Over rounds", "Dropouts and colluders", "40%", "One phone's account",
        "e^epsilon times that is inside delta", "Bad events", "the cohort list is below min_cohort",
    ):  # fmt: skip
        assert part in out, part


@pytest.mark.slow
def test_explain_puts_three_accountants_side_by_side(budget):
    _, out, _ = budget(*CENTRAL, "--population", 100_000, "--cohort", 1000, "--rounds", 500,
                       "--noise-multiplier", 1, "--delta", 1e-6, "--explain")  # fmt: skip
    rows = {line.split()[1]: line.split()[2:] for line in out.splitlines()
            if line.startswith("epsilon_release ") and len(line.split()) == 4}  # fmt: skip
    assert rows["rdp"] == ["claim", "1.969"]
    assert rows["pld"] == ["claim", "1.581"]  # 1.58034, rounded up
    assert rows["prv"][0] == "check"
    assert "take none of it away" in out


def test_printed_epsilons_are_never_below_the_figures():
    for value in (0.0, 1.0, 1.0000000001, 0.1 + 0.2, 1e-9, 2.9999, 123.4560001, 5.0005):
        assert float(rounded_up(value)) >= value
        assert float(rounded_up(value)) - value < 0.00100001
    assert rounded_up(1.0000000001) == "1.001"
    assert rounded_up(2.0) == "2.000"
    assert rounded_up(1.1) == "1.100"
    assert rounded_up(math.inf) == "infinite"


def test_infinities_are_said_as_such(budget, document):
    plan = [*PHONES, "--population", 1000, "--cohort", 100, "--rounds", 3, "--noise-multiplier", 0]
    _, out, _ = budget(*plan)
    assert "epsilon_release infinite  (no protection at all)" in out
    assert "Warning: No noise is added" in out
    assert document(*plan)["epsilon_release"] == {"rdp": "Infinity", "pld": "Infinity"}


@pytest.mark.slow
def test_what_is_solved_can_be_priced(budget, document):
    plan = [*PHONES, "--population", 100_000, "--cohort", 1000, "--dimension", 600]
    _, out, _ = budget(*plan, "--rounds", 100, "--solve", "noise", "--epsilon", 1.5)
    (line,) = (line for line in out.splitlines() if line.startswith("noise "))
    found = document(*plan, "--rounds", 100, "--noise-multiplier", line.split()[1])
    assert 1.49 < found["epsilon_release"]["rdp"] <= 1.5
    solved = document(*plan, "--noise-multiplier", 2, "--solve", "rounds", "--epsilon", 1.5)
    assert solved["epsilon_release"]["rdp"] <= 1.5
    more = document(*plan, "--noise-multiplier", 2, "--rounds", solved["rounds"] + 1)
    assert more["epsilon_release"]["rdp"] > 1.5
    bits = document(
        *plan, "--noise-multiplier", 2, "--rounds", 10, "--solve", "bits", "--epsilon", 1.5
    )
    assert bits["plan"]["bits"] == 16


@pytest.mark.slow
def test_a_cap_that_takes_its_time_says_so_where_no_program_reads(budget):
    status, out, err = budget(*CENTRAL, "--population", 1000, "--probability", 0.064, "--rounds",
                              100, "--noise-multiplier", 1.2, "--delta", 1e-4,
                              "--cohort-cap", 96)  # fmt: skip
    assert status == 0
    assert "epsilon_release 2.642" in out
    assert "may take a while" in err
    assert "may take a while" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--noise-multiplier", "nan"], 2,
         "'--noise-multiplier': expected a finite number, got nan"),
        (["--noise-multiplier", "-1"], 1, "--noise-multiplier must be positive and finite"),
        (["--noise-multiplier", "x"], 2, "'x' is not a valid float"),
        (["--delta", "0.5"], 1, "delta must be positive and at most 1 / (10 * population)"),
        (["--delta", "nan"], 2, "'--delta': expected a finite number, got nan"),
        (["--rounds", "0"], 1, "rounds must be an integer from 1"),
        (["--probability", "0.1"], 1, "give either cohort or probability"),
        (["--cohort", "2000"], 1, "cohort must be in (0, population]"),
        (["--cohort", "inf"], 2, "'--cohort': expected a finite number, got inf"),
        (["--bits", "12"], 1, "--bits must be one of (16, 24, 32)"),
        (["--mechanism", "skellam"], 1, "poisson participation is refused with skellam noise"),
        (["--mechanism", "laplace"], 2, "'laplace' is not one of central, distributed"),
        (["--participation", "some"], 2, "'some' is not one of poisson"),
        (["--participation", "round_robin", "--cohort-cap", "120"], 1, "--cohort-cap belongs to"),
        (["--cohort-cap", "100"], 1, "--cohort-cap with noise on phones must hardly ever"),
        (["--min-reporting", "101"], 1, "--min-cohort must be at most 75% of the expected cohort"),
        (["--solve", "rounds"], 1, "--solve and --epsilon go together"),
        (["--epsilon", "1"], 1, "--solve and --epsilon go together"),
        (["--solve", "noise", "--epsilon", "1"], 1, "leave --noise-multiplier out"),
        (["--solve", "clip", "--epsilon", "1"], 2, "'clip' is not one of noise"),
        (["--clip-norm", "0"], 1, "--clip-norm must be positive"),
        (["--population", "0"], 1, "population must be an integer from 1"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_clear_message(budget, arguments, status, words):
    plan = ["--population", 1000, "--cohort", 100, "--rounds", 10, "--noise-multiplier", 2]
    found, out, err = budget(*PHONES, *plan, *arguments)
    assert found == status
    assert words in " ".join(err.replace("\u2502", " ").split())
    assert out == ""


@pytest.mark.parametrize(
    ("left_out", "words"),
    [("--rounds", "--rounds is needed"), ("--noise-multiplier", "--noise-multiplier is needed"),
     ("--cohort", "--cohort or --probability is needed")],
)  # fmt: skip
def test_what_is_missing_is_named(budget, left_out, words):
    plan = {"--cohort": 100, "--rounds": 10, "--noise-multiplier": 2}
    rest = [part for name, value in plan.items() if name != left_out for part in (name, value)]
    status, _, err = budget(*PHONES, "--population", 1000, *rest)
    assert status == 1
    assert words in err


@pytest.mark.slow
def test_a_refused_budget_imports_no_accountant():
    code = (
        "import sys; from simulations import cli\n"
        "for arguments in (['budget', '--help'], ['budget', '--mechanism', 'x']):\n"
        "    sys.argv = ['fedspeech', *arguments]\n"
        "    try: cli.main()\n"
        "    except SystemExit: pass\n"
        "print(sorted({'torch', 'opacus', 'dp_accounting', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- One plan, one price --------------------------------------------------------------------------

CORPORA = {
    "asr-an4": {"population": 28, "dimension": 3005},
    "asr-joined": {"population": 80, "dimension": 3005},
    "real-commands": {"population": 150, "dimension": 1560},
}
"""Sizes that recordings have, which do not ship."""


def run_of(scenario):
    """The plan that a run of a scenario obeys."""
    if scenario.name in CORPORA:
        sizes = PlanSizes(**CORPORA[scenario.name], unit="user", availability=1.0)
        return plan_of(scenario.privacy, sizes).plan
    return plan_of(scenario.privacy, Experiment.from_scenario(scenario).sizes).plan


def options(plan):
    """A plan as options of the command."""
    given = {
        "mechanism": plan.mechanism, "participation": plan.participation,
        "population": plan.population, "probability": repr(plan.participation_probability),
        "rounds": plan.rounds, "noise-multiplier": repr(plan.noise_multiplier),
        "delta": repr(plan.delta), "dimension": plan.dimension,
        "clip-norm": repr(plan.clip_norm), "min-cohort": plan.min_cohort,
        "min-reporting": plan.min_reporting, "max-participations": plan.max_participations,
        "colluders": plan.colluders, "dropout-rate": repr(plan.dropout_rate),
        "availability": repr(plan.availability), "secure-aggregation": plan.secure_aggregation,
    }  # fmt: skip
    if plan.mechanism == "none":
        given["mechanism"] = "distributed"
    if plan.factorization is not None:
        given |= {
            "min-separation": plan.factorization.min_separation, "bands": plan.factorization.bands,
            "momentum": repr(plan.factorization.momentum),
        }  # fmt: skip
    if plan.adaptive_clipping is not None:
        given["clip-quantile"] = plan.adaptive_clipping.target_quantile
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def assert_same_price(found, plan):
    """A document says of a plan what a run of it says, to the last digit."""
    run = plan.guarantee(plan.rounds)
    assert found["relation"] == {"release": run.relation_release, "server": run.relation_server}
    assert found["failure_probability"]["release"] == run.failure_probability
    for name in ("release", "server"):
        claimed = found[f"epsilon_{name}"][found["claim"][name]]
        epsilon = getattr(run, f"epsilon_{name}")
        assert claimed == (epsilon if math.isfinite(epsilon) else "Infinity")


@pytest.mark.slow
@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_costs_what_its_run_costs(document, name):
    plan = run_of(read_scenario(name))
    assert_same_price(document(*options(plan)), plan)
    if name not in CORPORA:
        found = document("--scenario", name)
        assert_same_price(found, plan)
        assert found["plan"]["fingerprint"] == plan.fingerprint


def random_plan(rng):
    """The plan of random settings that no rule refuses."""
    while True:
        mechanisms = ["distributed", "distributed", "skellam", "central", "local"]
        mechanism = str(rng.choice([*mechanisms, "matrix_factorization"]))
        participations = ["poisson", "poisson", "fixed_size", "round_robin"]
        correlated = mechanism == "matrix_factorization"
        adapts = rng.random() < 0.4 and not correlated
        settings = PrivacySettings(
            mechanism=mechanism,
            participation="round_robin" if correlated else str(rng.choice(participations)),
            secure_aggregation=str(rng.choice(["masked", "ideal"])),
            clip_norm=float(rng.uniform(0.01, 1)), noise_multiplier=float(rng.uniform(0.3, 8)),
            adaptive_clipping=AdaptiveClippingSettings(target_quantile=0.5) if adapts else None,
            participation_probability=float(rng.uniform(0.02, 0.9)),
            rounds=int(rng.integers(1, 60)), max_participations=int(rng.integers(1, 60)),
            min_cohort_share=float(rng.uniform(0.4, 0.75)),
            min_reporting_share=float(rng.uniform(0.3, 0.7)),
            colluders=int(rng.integers(0, 6)), dropout_rate=float(rng.uniform(0, 0.15)),
        )  # fmt: skip
        away = settings.participation == "poisson" and rng.random() < 0.4
        sizes = PlanSizes(
            population=int(rng.integers(300, 4000)), dimension=int(rng.integers(10, 6000)),
            unit="user", availability=float(rng.uniform(0.2, 1)) if away else 1.0,
            momentum=float(rng.choice([0.0, 0.9])),
        )  # fmt: skip
        try:
            return plan_of(settings, sizes).plan
        except ScenarioError:
            continue


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_plans_cost_what_their_runs_cost(document, seed):
    plan = random_plan(np.random.default_rng(seed))
    assert_same_price(document(*options(plan)), plan)


@pytest.mark.soak
def test_two_hundred_random_plans_cost_what_their_runs_cost(document):
    for seed in range(1000, 1200):
        plan = random_plan(np.random.default_rng(seed))
        assert_same_price(document(*options(plan)), plan)


@pytest.mark.slow
def test_a_scenario_says_it_all(budget):
    status, _, err = budget("--scenario", "quick", "--noise-multiplier", 3)
    assert status == 1
    assert "change it by --set, and leave --noise-multiplier out" in err
    status, out, _ = budget("--scenario", "quick", "--set", "privacy.noise_multiplier=4")
    assert status == 0
    assert "distributed noise 4 (of the sum" in out


@pytest.mark.slow
def test_a_scenario_can_be_solved_for(document):
    found = document("--scenario", "quick", "--solve", "rounds", "--epsilon", 9)
    assert found["epsilon_release"]["rdp"] <= 9
    assert found["solved"]["for"] == "rounds"


def test_a_plan_that_a_rule_refuses_names_settings_that_it_would_accept(budget):
    """All at once: with these the same command goes through."""
    few = ["--scenario", "quick", "--set", "corpus.federated_phones=6"]
    status, _, err = budget(*few)
    assert status == 1
    said = " ".join(err.split())
    assert "6 phones are accepted with privacy." in said
    accepted = re.findall(r"(privacy\.[a-z_]+=[0-9]+\.?[0-9]*)", said)
    more = [part for change in accepted for part in ("--set", change)]
    status, _, err = budget(*few, *more)
    assert status == 0, err


CORRELATED = (
    "--mechanism", "matrix_factorization", "--participation", "round_robin", "--population", 3000,
    "--cohort", 300, "--rounds", 40, "--noise-multiplier", 18,
)  # fmt: skip


def test_correlated_noise_is_priced_with_the_distance_that_phones_keep(document, budget):
    found = document(*CORRELATED, "--momentum", 0.9)
    plan = found["plan"]
    assert (plan["min_separation"], plan["bands"], plan["max_participations"]) == (10, 10, 4)
    assert found["assumed"].count("min_separation") == found["assumed"].count("bands") == 1
    assert found["epsilon_release"]["pld"] < 1
    assert found["epsilon_server"]["pld"] == "Infinity"
    status, _, err = budget(*CORRELATED, "--min-separation", 11)
    assert status == 1
    assert "--min-separation must be at most that" in " ".join(err.split())
