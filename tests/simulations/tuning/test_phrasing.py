"""Three lines say what to run, why, and how sure that is, on the page as on the console."""

import functools
import html

import numpy as np
from tiny_experiment import tiny_scenario

from fedspeech.seeds import stream
from simulations.results.spent import account_of
from simulations.setup.definition import Experiment
from simulations.setup.planning import plan_of
from simulations.tuning.evidence import Evidence
from simulations.tuning.page import render
from simulations.tuning.phrasing import recommendation, short
from simulations.tuning.results import Recommended, Tried, Tuning

NOISES = (4.0, 8.0, 64.0)


@functools.cache
def tuning(phones, scatter=0.1, within=0.005):
    """Three settings of rising noise at 80, 78 and 50 %, evaluated by so many unequal phones."""
    noise = scatter * stream(5, "scatter").normal(size=(phones, 3))
    evidence = Evidence(
        [np.array([0.80, 0.78, 0.50]) + noise - noise.mean(axis=0)], stream(0, "draws")
    )
    scenario = tiny_scenario("privacy.secure_aggregation=ideal")
    sizes = Experiment.from_scenario(scenario).sizes
    guarantees = [
        plan_of(scenario.privacy.model_copy(update={"noise_multiplier": one}), sizes)
        .plan.guarantee(scenario.privacy.rounds)
        for one in NOISES
    ]  # fmt: skip
    choice = evidence.choose(range(3), [one.epsilon_release for one in guarantees], within)
    tried = tuple(
        Tried(
            number=index + 1, clip_norm=0.1, noise_multiplier=NOISES[index],
            server_learning_rate=1.0, local_epochs=2, within_budget=True, worst_segment=None,
            **dict(account_of(guarantees[index], None, None)),
            accuracy=evidence.accuracy(index), by_seed=(float(evidence.means[index]),),
            against_best=evidence.difference(index, choice.best), stopped="",
            curve={1: 0.5}, signal_to_noise=1.0,
        )
        for index in range(3)
    )  # fmt: skip
    chosen = Recommended(
        number=choice.index + 1, best=choice.best + 1, share_same=choice.share_same,
        flattery=choice.flattery, unresolved=tuple(one + 1 for one in choice.unresolved),
        spending={1: (1.0, 1.0)},
    )  # fmt: skip
    found = Tuning(
        mode="pareto", scenario="quick", corpus="synthetic", population="synthetic",
        visibility="simulation_only", measure="tones told apart", seeds=(1,), members=phones,
        base=0.45, phones=12, rounds=2, within=within,
        budget=None, rate_rule="constant", tried=tried, recommended=chosen,
    )  # fmt: skip
    return found.model_copy(update={"short": short(found), "words": tuple(recommendation(found))})


def test_the_accuracy_is_called_what_the_task_calls_it():
    assert "Accuracy (tones told apart) with its 95 % interval" in " ".join(tuning(24).words)


def test_what_chance_may_have_made_gives_way_to_the_smaller_epsilon():
    found = tuning(phones=8)
    run, why, sure = found.short
    assert run.startswith("Run clip norm 0.1, noise multiplier 8,")
    assert "78.0 % [" in run
    promised = found.tried[1].guarantee
    for part in (
        f"against readers of the published models ({promised.relation_release})",
        f"against the server ({promised.relation_server})", "delta 8.4e-03", "unit one user",
    ):  # fmt: skip
        assert part in run
    assert why.startswith("Why: it has the smallest epsilon of those within 0.5 points of the best")
    assert "−2.0 points [" in why
    assert "noise multiplier 4" in why
    assert "1 other cannot be told from it" in sure
    assert "out of 3 settings in" in sure


def test_a_difference_beyond_chance_keeps_the_best():
    run, why, sure = tuning(phones=800).short
    assert "noise multiplier 4," in run
    assert why.startswith("Why: it is the best seen, and every setting with a smaller epsilon is")
    assert sure.endswith("every other one differs from it by more than chance explains.")


def test_what_nothing_was_compared_with_claims_no_comparison():
    found = tuning(phones=800)
    stopped = [one.model_copy(update={"stopped": "hopeless"}) for one in found.tried[1:]]
    _, why, sure = short(found.model_copy(update={"tried": (found.tried[0], *stopped)}))
    assert why.endswith("no setting that went to its end has a smaller epsilon.")
    assert "nothing to compare it with" in sure


def test_the_page_begins_with_the_three_lines():
    found = tuning(phones=8)
    page = render(found).replace("\N{NO-BREAK SPACE}", " ")
    lines = page[page.index('class="verdict short"') :].split("</div>")[0]
    assert lines.count("<p>") == 3
    for line in found.short:
        assert html.escape(line[:60]) in lines
    assert np.all([line not in paragraph for line in found.short for paragraph in found.words])
    assert page.index("who must be honest") > page.index("How sure: ")
