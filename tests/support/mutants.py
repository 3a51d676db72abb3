# ruff: noqa: E501  (the source stands here as it stands there)
"""Faults that a change could bring in, as exact replacements, each with the test that sees it.

`tests/contracts/test_mutants.py` plants them one by one into a copy of the code (`make soak`).
`python tests/support/mutants.py > docs/mutants.md` writes the list for people.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

PARTS = {
    "plan": "The plan and its price",
    "encoding": "Clipping, encoding, noise and the round",
    "ledger": "The ledger and what is stated of it",
    "protocol": "The phone's side of secure aggregation",
    "opening": "The server's side of secure aggregation",
    "handlers": "Phones and server around the protocol",
    "publication": "What may leave the operator's desk",
    "rollout": "Adapters on their way to phones",
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault.

    Attributes:
      part: of the project.
      fault: what would be wrong, in words.
      file: below the root.
      before: text that stands in it exactly once.
      after: what the fault has in its place.
      test: a default test that fails then.
    """

    part: Literal[
        "plan", "encoding", "ledger", "protocol", "opening", "handlers", "publication", "rollout"
    ]
    fault: str
    file: str
    before: str
    after: str
    test: str


def document() -> str:
    """The page of documents that lists them."""
    lines = [
        "# Planted faults",
        "",
        f"{len(MUTANTS)} faults that would break a promise about privacy or a sum, each a small exact replacement in the",
        "source, each seen by a default test. `make soak` plants them one by one into a copy of the code and",
        "runs that test; it fails if one survives. `make test` fails if a replacement no longer has its one place.",
        "The list stands in `tests/support/mutants.py`, which writes this page.",
    ]
    for part, title in PARTS.items():
        lines += ["", f"## {title}", "", "| fault | file | seen by |", "|---|---|---|"]
        for mutant in MUTANTS:
            if mutant.part == part:
                file, _, test = mutant.test.partition("::")
                lines.append(f"| {mutant.fault} | `{mutant.file}` | `{test}` in `{file}` |")
    return "\n".join(lines) + "\n"


MUTANTS = (
    Mutant(
        part="plan",
        fault="phones' noise is sized for all reporting phones, colluders included",
        file="fedspeech/privacy/sizing.py",
        before=(
            '        shares = 1 if self.mechanism == "local" else self.honest\n'
            "        return self.vector"
        ),
        after=(
            '        shares = 1 if self.mechanism == "local" else self.min_reporting\n'
            "        return self.vector"
        ),
        test="tests/fedspeech/privacy/test_plan.py::test_events_say_what_is_released",
    ),
    Mutant(
        part="plan",
        fault="a plan is priced with the share of every reporting phone",
        file="fedspeech/privacy/round_cost.py",
        before="    given = _event(plan, plan.honest)",
        after="    given = _event(plan, plan.min_reporting)",
        test="tests/fedspeech/privacy/test_plan.py::test_events_say_what_is_released",
    ),
    Mutant(
        part="plan",
        fault="the ring is priced at the norm before rounding",
        file="fedspeech/privacy/sizing.py",
        before="        return math.sqrt(self.norm_bound_squared)",
        after="        return self.clip_norm * self.scale",
        test="tests/fedspeech/privacy/test_plan.py::test_phones_that_all_send_the_longest_integers_raise_no_alarm",
    ),
    Mutant(
        part="plan",
        fault="the server's noise is sized for the norm before rounding",
        file="fedspeech/privacy/sizing.py",
        before="self.vector_noise_multiplier * self.sensitivity if self.central",
        after="self.vector_noise_multiplier * self.clip_norm * self.scale if self.central",
        test="tests/fedspeech/privacy/test_plan_mechanisms.py::test_the_servers_noise_is_sized_for_the_norm_that_rounding_lets_through",
    ),
    Mutant(
        part="plan",
        fault="the clip bit's noise takes nothing from the vector's",
        file="fedspeech/privacy/sizing.py",
        before="        return vector_noise_multiplier(self.noise_multiplier, self._bit_noise)",
        after="        return self.noise_multiplier",
        test="tests/fedspeech/privacy/test_adaptive_clipping.py::test_what_does_not_fit_is_refused_with_the_rule",
    ),
    Mutant(
        part="plan",
        fault="the clip bit is sent without noise",
        file="fedspeech/privacy/codec.py",
        before="                bit += self.noise_distribution.of(self.bit_stddev).draw(noise, 1)",
        after="                pass",
        test="tests/fedspeech/privacy/test_adaptive_clipping.py::test_share_and_mean_carry_the_noise_that_is_accounted",
    ),
    Mutant(
        part="plan",
        fault="central noise is not added",
        file="fedspeech/privacy/codec.py",
        before="            total = self._with_server_noise(total, noise)",
        after="            pass",
        test="tests/fedspeech/privacy/test_plan_mechanisms.py::test_the_noise_of_a_thousand_phones_is_the_one_promised_and_never_less",
    ),
    Mutant(
        part="plan",
        fault="a strategy is priced for one participation of a phone less",
        file="fedspeech/privacy/factorization.py",
        before="    return min(max_participations, math.ceil(rounds / min_separation))",
        after="    return max(1, min(max_participations, math.ceil(rounds / min_separation)) - 1)",
        test="tests/fedspeech/privacy/test_factorization.py::test_no_pattern_of_participation_moves_more_and_one_moves_as_much",
    ),
    Mutant(
        part="plan",
        fault="columns of a strategy that overlap are priced as if they did not",
        file="fedspeech/privacy/factorization.py",
        before="    if len(column) <= min_separation:",
        after="    if True:",
        test="tests/fedspeech/privacy/test_factorization.py::test_no_pattern_of_participation_moves_more_and_one_moves_as_much",
    ),
    Mutant(
        part="plan",
        fault="every round takes the same fresh noise",
        file="fedspeech/privacy/correlated_noise.py",
        before='self._derived("server noise", round_number)',
        after='self._derived("server noise", 0)',
        test="tests/fedspeech/privacy/test_correlated_noise.py::test_rows_have_the_covariance_that_is_priced",
    ),
    Mutant(
        part="plan",
        fault="noise takes back the rows of other rounds than the strategy says",
        file="fedspeech/privacy/correlated_noise.py",
        before="            self._rows.appendleft(self._drawn(self._next))",
        after="            self._rows.append(self._drawn(self._next))",
        test="tests/fedspeech/privacy/test_correlated_noise.py::test_rows_have_the_covariance_that_is_priced",
    ),
    Mutant(
        part="plan",
        fault="correlated noise of a round does not take back what was rounded",
        file="fedspeech/privacy/correlated_noise.py",
        before="-rest / GRID) - whole",
        after="rest / GRID) - whole",
        test="tests/fedspeech/privacy/test_correlated_noise.py::test_what_is_published_is_computed_from_the_strategy_times_the_sums_and_fresh_noise_alone",
    ),
    Mutant(
        part="plan",
        fault="rounds of correlated noise are rotated each by its own seed",
        file="fedspeech/privacy/codec.py",
        before='        return seed if self.factorization is None else b"one',
        after='        return seed if True else b"one',
        test="tests/fedspeech/privacy/test_matrix_factorization.py::test_rounds_are_rotated_alike_so_that_noise_is_taken_back",
    ),
    Mutant(
        part="ledger",
        fault="rounds between two charges of correlated noise are not counted",
        file="fedspeech/privacy/spending.py",
        before="                run.reached = max(run.reached, charge.round + 1)",
        after="                run.reached = run.charged",
        test="tests/fedspeech/privacy/test_matrix_factorization.py::test_a_charge_pays_for_every_row_up_to_its_round",
    ),
    Mutant(
        part="ledger",
        fault="the noise of a round may be used for a second sum",
        file="fedspeech/privacy/ledger.py",
        before="            if self._plan.factorization and any(",
        after="            if False and any(",
        test="tests/fedspeech/privacy/test_matrix_factorization.py::test_the_noise_of_a_round_is_never_used_for_two_sums",
    ),
    Mutant(
        part="handlers",
        fault="a phone joins sooner after its last round than it was promised",
        file="fedspeech/privacy/plan.py",
        before="rounds_since >= apart",
        after="rounds_since >= 1",
        test="tests/clients/test_client_shard.py::test_a_phone_that_sent_too_lately_does_not_join_whatever_its_server_says",
    ),
    Mutant(
        part="handlers",
        fault="a phone out of its turn is let in",
        file="server/gathering.py",
        before='        if self._job.plan.participation != "round_robin":',
        after="        if True:",
        test="tests/server/test_rounds.py::test_a_phone_that_joins_out_of_its_turn_fails_its_shard_or_is_left_out",
    ),
    Mutant(
        part="handlers",
        fault="a run that lost the secret of its noise draws other noise",
        file="server/resuming.py",
        before="    if drawn and not path.is_file():",
        after="    if False:",
        test="tests/server/test_resuming.py::test_without_the_secret_that_was_drawn_from_nothing_goes_on",
    ),
    Mutant(
        part="plan",
        fault="noise is drawn from the rounding's keystream",
        file="fedspeech/privacy/codec.py",
        before="self.noise_distribution.of(self.stddev).draw(noise, len(integers))",
        after="self.noise_distribution.of(self.stddev).draw(rounding, len(integers))",
        test="tests/fedspeech/test_round.py::test_rounding_and_noise_of_a_phone_have_keystreams_of_their_own",
    ),
    Mutant(
        part="plan",
        fault="a phone may send one input beyond its participation limit",
        file="fedspeech/privacy/plan.py",
        before="        return rested and inputs_sent < self.max_participations",
        after="        return rested and inputs_sent <= self.max_participations",
        test="tests/clients/test_client_shard.py::test_a_phone_beyond_its_participation_limit_does_not_join",
    ),
    Mutant(
        part="plan",
        fault="phones clip to whatever norm the server names",
        file="fedspeech/privacy/codec.py",
        before="        return bounds.min_clip_norm <= clip_norm <= bounds.max_clip_norm",
        after="        return True",
        test="tests/fedspeech/privacy/test_adaptive_clipping.py::test_a_norm_out_of_bounds_is_not_clipped_to",
    ),
    Mutant(
        part="plan",
        fault="the session's terms leave colluders out",
        file="fedspeech/privacy/sizing.py",
        before=("            colluders=self.colluders,\n            dropped_share"),
        after=("            colluders=0,\n            dropped_share"),
        test="tests/fedspeech/privacy/test_masked_plan.py::test_terms_are_the_plans_own",
    ),
    Mutant(
        part="plan",
        fault="a mean is over twice the expected cohort",
        file="fedspeech/privacy/codec.py",
        before="            mean=summed / self.expected_cohort,",
        after="            mean=summed / (2 * self.expected_cohort),",
        test="tests/fedspeech/test_round.py::test_the_mean_is_over_the_expected_cohort_never_over_who_came",
    ),
    Mutant(
        part="plan",
        fault="the minimum on phones that shared is no event",
        file="fedspeech/privacy/failure_probabilities.py",
        before=(
            '    if plan.secure_aggregation != "masked":\n'
            "        return None\n"
            "    return plan.min_reporting, share_answering(plan.dropout_rate, Stage.SHARE)"
        ),
        after="    return None",
        test="tests/fedspeech/privacy/test_masked_plan.py::test_each_minimum_of_a_masked_round_is_counted_with_phones_that_stand_there",
    ),
    Mutant(
        part="plan",
        fault="a restart's minimum is no event",
        file="fedspeech/privacy/failure_probabilities.py",
        before="    return plan.min_cohort, share_answering(plan.dropout_rate, Stage.ACCEPT)",
        after="    return None",
        test="tests/contracts/test_round_events.py::test_the_minimum_after_a_restart_is_counted",
    ),
    Mutant(
        part="plan",
        fault="a graph is drawn once a round, however often it starts",
        file="fedspeech/privacy/failure_probabilities.py",
        before="    return MAX_SESSIONS * 2.0 ** -SECURITY_BITS[plan.threat_model] if _draws_graphs(plan) else 0.0",
        after="    return 2.0 ** -SECURITY_BITS[plan.threat_model] if _draws_graphs(plan) else 0.0",
        test="tests/fedspeech/privacy/test_masked_plan.py::test_bad_graphs_are_priced_per_draw_and_only_where_a_graph_is_drawn",
    ),
    Mutant(
        part="plan",
        fault="bad events are added to delta without e^epsilon",
        file="fedspeech/privacy/adversary_views.py",
        before="at(delta - math.exp(above + math.log(failing)))",
        after="at(delta - failing)",
        test="tests/fedspeech/privacy/test_pricing.py::test_bad_events_are_paid_out_of_delta_times_e_to_the_epsilon",
    ),
    Mutant(
        part="encoding",
        fault="rounding goes to the nearest integer",
        file="fedspeech/privacy/encoding.py",
        before="    up = keystream.uniform(values.shape[0]) < values - floor",
        after="    up = values - floor > 0.5",
        test="tests/fedspeech/privacy/test_encoding.py::test_rounding_is_unbiased",
    ),
    Mutant(
        part="encoding",
        fault="a rounded vector is sent whatever its norm",
        file="fedspeech/privacy/encoding.py",
        before="        if int(np.dot(rounded, rounded)) <= norm_bound_squared:",
        after="        if True:",
        test="tests/fedspeech/privacy/test_encoding.py::test_norm_never_exceeds_the_bound_after_rounding",
    ),
    Mutant(
        part="encoding",
        fault="after the last try the vector is sent as it is",
        file="fedspeech/privacy/encoding.py",
        before="    return np.zeros(values.shape[0], dtype=np.int64)",
        after="    return rounded",
        test="tests/fedspeech/privacy/test_encoding.py::test_rounding_retries_within_the_bound_and_gives_up_as_zeros",
    ),
    Mutant(
        part="encoding",
        fault="the bound after rounding forgets the fractions",
        file="fedspeech/privacy/encoding.py",
        before="        min((norm + root) ** 2, norm**2 + dimension / 4 + beta_term * (norm + root / 2))",
        after="        norm**2",
        test="tests/fedspeech/privacy/test_encoding.py::test_bound_after_rounding_is_that_of_the_paper",
    ),
    Mutant(
        part="encoding",
        fault="a vector that is not finite is sent as it is",
        file="fedspeech/privacy/clipping.py",
        before="            return np.zeros_like(wide)",
        after="            return wide",
        test="tests/fedspeech/privacy/test_clipping.py::test_a_delta_that_is_not_finite_becomes_zeros",
    ),
    Mutant(
        part="encoding",
        fault="a long vector is not clipped",
        file="fedspeech/privacy/clipping.py",
        before="        return wide if norm <= self.clip_norm else wide * (self.clip_norm / norm)",
        after="        return wide",
        test="tests/fedspeech/privacy/test_clipping.py::test_clipping_never_exceeds_the_norm_and_keeps_the_direction",
    ),
    Mutant(
        part="encoding",
        fault="the cap is ignored when a cohort is drawn",
        file="fedspeech/round.py",
        before="probability=plan.participation_probability, cap=plan.cohort_cap",
        after="probability=plan.participation_probability, cap=None",
        test="tests/fedspeech/test_round.py::test_the_cap_on_a_cohort_holds_when_it_is_drawn",
    ),
    Mutant(
        part="encoding",
        fault="noise and rounding have one key",
        file="fedspeech/round.py",
        before='noise=entropy.keystream("noise", key.round_id',
        after='noise=entropy.keystream("rounding", key.round_id',
        test="tests/fedspeech/test_round.py::test_rounding_and_noise_of_a_phone_have_keystreams_of_their_own",
    ),
    Mutant(
        part="encoding",
        fault="noise does not depend on the phone",
        file="fedspeech/round.py",
        before='noise=entropy.keystream("noise", key.round_id, key.attempt, phone)',
        after='noise=entropy.keystream("noise", key.round_id, key.attempt)',
        test="tests/fedspeech/test_round.py::test_rounding_and_noise_of_a_phone_have_keystreams_of_their_own",
    ),
    Mutant(
        part="encoding",
        fault="a round is paid for after training",
        file="fedspeech/round.py",
        before=(
            "    charge = ledger.charge(\n"
            "        round_number, key.attempt, key.round_id, noise_commitment(job, state, key)\n"
            "    )\n"
        ),
        after=(
            "    query.contributions(\n"
            "        [arrays.phone(phone) for phone in cohort], state.model, job.phone_rngs(key, cohort)\n"
            "    )\n"
            "    charge = ledger.charge(\n"
            "        round_number, key.attempt, key.round_id, noise_commitment(job, state, key)\n"
            "    )\n"
        ),
        test="tests/fedspeech/test_round.py::test_the_charge_is_on_disk_before_anything_is_trained",
    ),
    Mutant(
        part="encoding",
        fault="a sum longer than honest phones make is used",
        file="fedspeech/round.py",
        before="    if decoded.too_long:",
        after="    if False:",
        test="tests/server/test_rounds.py::test_a_sum_longer_than_honest_phones_can_make_is_not_used",
    ),
    Mutant(
        part="ledger",
        fault="the budget is not enforced",
        file="fedspeech/privacy/spending.py",
        before="        if price.epsilon_release > self._plan.epsilon_budget:",
        after="        if False:",
        test="tests/fedspeech/privacy/test_ledger.py::test_the_round_beyond_the_budget_is_refused_and_leaves_no_trace",
    ),
    Mutant(
        part="ledger",
        fault="every row is priced under this run's plan",
        file="fedspeech/privacy/spending.py",
        before="spent.append((cost.of_first(max(last, rounds)), rounds))",
        after="spent.append((self._plan.cost.of_first(max(last, rounds)), rounds))",
        test="tests/fedspeech/privacy/test_ledger.py::test_each_row_costs_what_the_plan_costs_that_it_was_charged_for",
    ),
    Mutant(
        part="ledger",
        fault="a torn line is not counted",
        file="fedspeech/privacy/spending.py",
        before="                    last.charged += 1\n",
        after="                    pass\n",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_torn_line_is_told_and_counted_at_every_place_where_a_kill_can_tear",
    ),
    Mutant(
        part="ledger",
        fault="a rid may be used twice",
        file="fedspeech/privacy/ledger.py",
        before='            if any(row["rid"] == rid.hex() for row in self._charges.values()):',
        after="            if False:",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_rid_is_never_used_twice_even_by_another_run",
    ),
    Mutant(
        part="ledger",
        fault="a run of another population is let onto the ledger",
        file="fedspeech/privacy/spending.py",
        before='        for name in ("population", "unit"):',
        after="        for name in ():",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_ledger_belongs_to_one_population",
    ),
    Mutant(
        part="ledger",
        fault="a replayed round is not compared with what was paid",
        file="fedspeech/privacy/ledger.py",
        before="        if found != (round_number, attempt, commitment):",
        after="        if False:",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_replay_of_another_round_or_of_other_noise_is_refused",
    ),
    Mutant(
        part="ledger",
        fault="a row of an unknown kind is passed over",
        file="fedspeech/privacy/spending.py",
        before='                raise ValueError(f"unknown kind {unknown!r}")',
        after="                pass",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_row_that_no_ledger_has_is_damage_though_the_chain_checks",
    ),
    Mutant(
        part="ledger",
        fault="the head is not kept outside",
        file="fedspeech/privacy/ledger.py",
        before="        if self._keeps_head and (why := keep_head",
        after="        if False and (why := keep_head",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_ledger_cut_between_two_rows_is_refused_wherever_it_is_read",
    ),
    Mutant(
        part="ledger",
        fault="the head is not compared when a ledger is looked at",
        file="fedspeech/privacy/ledger.py",
        before="        rows = list(chain.read(copy, kept))",
        after="        rows = list(chain.read(copy))",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_ledger_cut_between_two_rows_is_refused_wherever_it_is_read",
    ),
    Mutant(
        part="ledger",
        fault="the head is not compared when a ledger is charged",
        file="fedspeech/privacy/ledger.py",
        before="self._take(self._chain.read(file, kept_head(self.path, LedgerDamaged)), file)",
        after="self._take(self._chain.read(file), file)",
        test="tests/fedspeech/privacy/test_ledger.py::test_a_ledger_cut_between_two_rows_is_refused_wherever_it_is_read",
    ),
    Mutant(
        part="ledger",
        fault="examples that an earlier run hid are not paid for",
        file="fedspeech/privacy/spending.py",
        before="if n == self._own or run.charged]",
        after="if n == self._own]",
        test="tests/fedspeech/privacy/test_examples.py::test_every_run_that_hid_examples_counts_and_none_that_did_not",
    ),
    Mutant(
        part="ledger",
        fault="an ideal sum is forgotten once a masked run follows",
        file="fedspeech/privacy/spending.py",
        before='    "secure_aggregation": ("ideal",),',
        after='    "secure_aggregation": (),',
        test="tests/fedspeech/privacy/test_ledger.py::test_one_simulated_sum_makes_the_whole_account_simulated",
    ),
    Mutant(
        part="ledger",
        fault="a head that is gone is no damage",
        file="fedspeech/hash_chain.py",
        before=("        if head.sequence >= self._sequence:\n            self._refuse("),
        after=(
            "        if head.sequence >= self._sequence:\n"
            "            return\n"
            "            self._refuse("
        ),
        test="tests/fedspeech/privacy/test_ledger.py::test_a_ledger_cut_between_two_rows_is_refused_wherever_it_is_read",
    ),
    Mutant(
        part="ledger",
        fault="a row's checksum is not computed again",
        file="fedspeech/hash_chain.py",
        before=' or row.get("sha256") != _checksum(row)',
        after="",
        test="tests/fedspeech/privacy/test_ledger.py::test_an_edited_line_is_refused_wherever_it_stands",
    ),
    Mutant(
        part="ledger",
        fault="a row need not name the one before",
        file="fedspeech/hash_chain.py",
        before='        fits = row.get("sequence") == self._sequence and row.get("previous") == self._previous',
        after='        fits = row.get("sequence") == self._sequence',
        test="tests/fedspeech/privacy/test_ledger.py::test_an_edited_line_with_a_fresh_checksum_breaks_the_chain",
    ),
    Mutant(
        part="ledger",
        fault="a row is not flushed to disk",
        file="fedspeech/hash_chain.py",
        before="                os.fsync(file.fileno())",
        after="                pass",
        test="tests/fedspeech/privacy/test_ledger.py::test_file_and_folder_are_flushed_before_a_charge_returns",
    ),
    Mutant(
        part="ledger",
        fault="a card prices rows at its run's own plan",
        file="simulations/artifacts/loaded_run.py",
        before="summary, spent = self.accounted, stated(self.ledger, rows, self.job)",
        after="summary, spent = self.accounted, self.job.plan.guarantee(self.ledger.rounds_charged)",
        test="tests/simulations/artifacts/test_loaded_run.py::test_cards_and_summaries_of_a_shared_ledger_say_what_the_ledger_says",
    ),
    Mutant(
        part="ledger",
        fault="a run that chose its number of rounds states the price of those that ran",
        file="simulations/results/spent.py",
        before="        begun = max(begun, job.plan.rounds)",
        after="        begun = max(begun, 0)",
        test="tests/contracts/test_early_stopping.py::test_no_further_round_begins_and_none_is_charged",
    ),
    Mutant(
        part="publication",
        fault="a released run's loggers are told the server's figures",
        file="simulations/callbacks/audience.py",
        before='return tuple(figure for figure in found if figure.visibility == "public")',
        after='return tuple(figure for figure in found if figure.visibility != "simulation_only")',
        test="tests/simulations/callbacks/test_audience.py::test_a_released_run_shows_no_private_figure_to_anybody",
    ),
    Mutant(
        part="handlers",
        fault="a phone on which an own trainer fails drops out",
        file="fedspeech/training/own_trainer.py",
        before="                delta = Delta(np.zeros(adapter.spec.size, np.float32))",
        after="                raise",
        test="tests/fedspeech/training/test_own_trainer.py::test_a_phone_on_which_it_fails_sends_zeros_and_says_nothing",
    ),
    Mutant(
        part="ledger",
        fault="cards count only what was charged",
        file="simulations/results/spent.py",
        before="    return ledger.guarantee(more_rounds=max(0, begun - ledger.own_rounds_charged))",
        after="    return ledger.guarantee()",
        test="tests/simulations/artifacts/test_loaded_run.py::test_at_which_stage_a_round_was_abandoned_does_not_show_in_what_is_published",
    ),
    Mutant(
        part="ledger",
        fault="a charged trial charges a scratch file",
        file="simulations/tuning/trial.py",
        before="        if file is None:",
        after="        if True:",
        test="tests/simulations/tuning/test_trial.py::test_a_charged_trial_charges_the_population_and_an_uncharged_one_nobody",
    ),
    Mutant(
        part="protocol",
        fault="a phone accepts a cohort list with other keys in its name",
        file="fedspeech/secagg/client.py",
        before="            if self._mine != shown + cohort_list.commitments[place].tobytes():",
        after="            if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_cohort_list_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone accepts a cohort list below its minimum",
        file="fedspeech/secagg/client.py",
        before="            if len(cohort_list) < terms.min_cohort:",
        after="            if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_cohort_list_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone does not check who signed the cohort list",
        file="fedspeech/secagg/client.py",
        before="            if not self._primitives.verify_all(_advertised(context, self._directory)):",
        after="            if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_cohort_list_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a nonce is not held against its commitment",
        file="fedspeech/secagg/phone_state.py",
        before="    if any(commitment_to(nonce) != c for nonce, c in zip(nonces, commitments, strict=True)):",
        after="    if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_graph_from_other_nonces_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone masks with fewer neighbors than the threshold",
        file="fedspeech/secagg/client.py",
        before="            if len(present) < t:",
        after="            if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_inbox_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone masks though a neighbor's share does not open",
        file="fedspeech/secagg/client.py",
        before=("            if share is None:\n                raise CiphertextMissing("),
        after=(
            "            if share is None:\n"
            "                share = bytes(8 * shamir.LIMBS)\n"
            "            if False:\n"
            "                raise CiphertextMissing("
        ),
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_inbox_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone agrees to reporting phones below its minimum",
        file="fedspeech/secagg/client.py",
        before="            if len(reporting) < self._terms.min_reporting:",
        after="            if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_list_of_reporting_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone agrees though neighbors masked under other lists",
        file="fedspeech/secagg/client.py",
        before=("            self._check_signed(\n                self._present(reporting),"),
        after=("            self._check_signed(\n                [],"),
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_list_of_sharers_shown_to_one_phone_is_refused_by_it_and_by_its_neighbors",
    ),
    Mutant(
        part="protocol",
        fault="a phone unmasks without a quorum",
        file="fedspeech/secagg/client.py",
        before="            if len(quorum.members) < context.quorum:",
        after="            if False:",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_a_false_quorum_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a phone gives both shares of each neighbor",
        file="fedspeech/secagg/client.py",
        before=("        self._held.wipe()\n        self._held = Secret(chosen.tobytes())\n"),
        after="",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_the_other_kind_of_share_is_never_given",
    ),
    Mutant(
        part="protocol",
        fault="a phone gives the key's share of a neighbor that survived",
        file="fedspeech/secagg/client.py",
        before="        chosen[alive] = held[alive, : shamir.LIMBS]",
        after="        chosen[alive] = held[alive, shamir.LIMBS :]",
        test="tests/fedspeech/secagg/test_malicious_server.py::test_the_other_kind_of_share_is_never_given",
    ),
    Mutant(
        part="protocol",
        fault="a phone goes on after a refusal",
        file="fedspeech/secagg/phone_state.py",
        before=(
            "            except BaseException as error:\n"
            "                self._left = True\n"
            "                self.erase()\n"
            "                if isinstance"
        ),
        after=("            except BaseException as error:\n                if isinstance"),
        test="tests/fedspeech/secagg/test_client_state.py::test_a_refusal_outlives_the_process_and_leaves_no_secret",
    ),
    Mutant(
        part="protocol",
        fault="an older stored state is believed",
        file="fedspeech/secagg/phone_state.py",
        before=("            if self.stage < stage:\n                raise StaleState"),
        after=("            if False:\n                raise StaleState"),
        test="tests/fedspeech/secagg/test_client_state.py::test_a_state_older_than_what_was_answered_is_refused",
    ),
    Mutant(
        part="protocol",
        fault="a stage is claimed after it was computed",
        file="fedspeech/secagg/phone_state.py",
        before=("                self._claim(stage, after)\n                yield"),
        after=("                yield\n                self._claim(stage, after)"),
        test="tests/fedspeech/secagg/test_malicious_server.py::test_of_threads_that_ask_at_once_one_gets_an_answer",
    ),
    Mutant(
        part="opening",
        fault="a seed that its phone did not commit to is taken off the sum",
        file="fedspeech/secagg/unmasking.py",
        before="                if commitment_to(secret) != self.commitments[place].tobytes():",
        after="                if False:",
        test="tests/fedspeech/secagg/test_malicious_phones.py::test_a_false_share_opens_nothing_unless_it_is_not_needed",
    ),
    Mutant(
        part="opening",
        fault="a mask key that its phone did not advertise is believed",
        file="fedspeech/secagg/unmasking.py",
        before="        if (public := public_key(private)) != cohort_list.mask_rows[place]:",
        after="        public = public_key(private)\n        if False:",
        test="tests/fedspeech/secagg/test_malicious_phones.py::test_a_mask_key_that_nobody_can_put_together_opens_nothing_once_its_phone_is_gone",
    ),
    Mutant(
        part="opening",
        fault="a row counts for the phone that it names, whoever signed it",
        file="fedspeech/secagg/server.py",
        before="            if self._holds(phone, statement(row, id_bytes(phone)), signature):",
        after="            if True:",
        test="tests/fedspeech/secagg/test_malicious_phones.py::test_a_signature_over_other_lists_is_no_vote",
    ),
    Mutant(
        part="opening",
        fault="a masked vector is added as often as it comes",
        file="fedspeech/secagg/server.py",
        before="        if self.stage != Stage.SHARE or phone in self._arrived:",
        after="        if self.stage != Stage.SHARE:",
        test="tests/fedspeech/secagg/test_malicious_phones.py::test_a_message_counts_once_and_for_phones_of_the_session_alone",
    ),
    Mutant(
        part="handlers",
        fault="a phone answers rounds beyond its plan",
        file="clients/client_shard.py",
        before="        if key.round >= plan.rounds:",
        after="        if False:",
        test="tests/clients/test_client_shard.py::test_a_round_beyond_the_plan_is_refused",
    ),
    Mutant(
        part="handlers",
        fault="a phone tosses its coin anew when a session restarts",
        file="clients/client_shard.py",
        before="        tossed = key.round == state.history.round",
        after="        tossed = False",
        test="tests/clients/test_client_shard.py::test_coins_are_tossed_once_a_round_however_often_its_session_starts",
    ),
    Mutant(
        part="handlers",
        fault="a phone joins beyond its participation limit",
        file="clients/client_shard.py",
        before=("        own = own[self._admitted(key.round, own, state)]\n"),
        after="",
        test="tests/clients/test_client_shard.py::test_a_phone_beyond_its_participation_limit_does_not_join",
    ),
    Mutant(
        part="handlers",
        fault="an input that was sent is not counted",
        file="clients/client_shard.py",
        before="        return update, state.counting(reporting, key.round)",
        after="        return update, state",
        test="tests/clients/test_client_shard.py::test_the_count_of_sent_inputs_grows_for_reporting_only",
    ),
    Mutant(
        part="handlers",
        fault="phones add up in a cohort below their minimum",
        file="clients/client_shard.py",
        before=("        if len(cohort_list) < plan.min_cohort:\n            raise"),
        after=("        if False:\n            raise"),
        test="tests/clients/test_client_shard.py::test_a_cohort_below_the_phones_own_minimum_is_refused",
    ),
    Mutant(
        part="handlers",
        fault="a cohort list without the shard's own phones is answered",
        file="clients/client_shard.py",
        before="        if not np.array_equal(self.own(cohort_list), state.joined):",
        after="        if False:",
        test="tests/clients/test_client_shard.py::test_a_cohort_list_that_adds_or_leaves_out_phones_of_the_shard_is_refused",
    ),
    Mutant(
        part="handlers",
        fault="a masked plan's phones answer the simulated sum",
        file="clients/permissions.py",
        before=('        raise ProtocolAbort(\n            f"{never} under a plan with secure'),
        after=('        ProtocolAbort(\n            f"{never} under a plan with secure'),
        test="tests/contracts/test_malicious_server.py::test_phones_of_a_masked_plan_never_send_a_vector_without_its_mask",
    ),
    Mutant(
        part="handlers",
        fault="a stage is answered out of order",
        file="clients/permissions.py",
        before="    if history.stage != permission.after:",
        after="    if False:",
        test="tests/clients/test_client_shard.py::test_a_repeated_request_is_refused_and_never_recomputed",
    ),
    Mutant(
        part="handlers",
        fault="a session of another round is answered",
        file="clients/permissions.py",
        before="    if key != state.key or session != history.session:",
        after="    if False:",
        test="tests/clients/test_client_shard.py::test_an_update_for_a_round_that_nobody_joined_is_refused",
    ),
    Mutant(
        part="handlers",
        fault="a node believes any context",
        file="clients/state.py",
        before="        if hashlib.sha256(kept).digest() != sha256:",
        after="        if False:",
        test="tests/clients/test_durable_state.py::test_a_session_is_read_back_whole_and_only_under_its_own_digest",
    ),
    Mutant(
        part="handlers",
        fault="phones use the memory of another job",
        file="clients/state.py",
        before="        if owner != job:",
        after="        if False:",
        test="tests/clients/test_durable_state.py::test_memory_of_another_job_is_refused_by_name",
    ),
    Mutant(
        part="handlers",
        fault="the server sums phones outside the cohort list",
        file="server/gathering.py",
        before="        if not np.isin(update.reporting, self._cohort_list).all():",
        after="        if False:",
        test="tests/server/test_rounds.py::test_a_phone_outside_the_cohort_list_in_the_reporting_fails_that_shard",
    ),
    Mutant(
        part="handlers",
        fault="the server opens a sum below the minimum",
        file="server/gathering.py",
        before="        if failed or reporting < plan.min_reporting:",
        after="        if failed:",
        test="tests/server/test_rounds.py::test_reporting_below_the_minimum_abandon_the_round",
    ),
    Mutant(
        part="handlers",
        fault="the budget is not asked before a round",
        file="server/rounds.py",
        before=("        ledger.require_budget(round_number)\n"),
        after=("        pass\n"),
        test="tests/server/test_rounds.py::test_the_refused_round_asks_nobody",
    ),
    Mutant(
        part="ledger",
        fault="a failed round is settled as completed",
        file="server/rounds.py",
        before="        ledger.outcome(charge, completed=False, reason=reason)",
        after="        ledger.outcome(charge, completed=True, reason=reason)",
        test="tests/server/test_rounds.py::test_reporting_below_the_minimum_abandon_the_round",
    ),
    Mutant(
        part="plan",
        fault="a participation limit that runs out is no event",
        file="fedspeech/privacy/failure_probabilities.py",
        before="    return binomial_tails.max_participations_failure(plan.rounds, probability, plan.participations)",
        after="    return 0.0",
        test="tests/contracts/test_round_events.py::test_a_participation_limit_that_runs_out_is_counted",
    ),
    Mutant(
        part="plan",
        fault="a participation limit that runs out takes nothing from delta",
        file="fedspeech/privacy/adversary_views.py",
        before=(
            "            failing += ends * max_participations_failure(\n"
            "                rounds, cost.probability, cost.max_participations\n"
            "            )"
        ),
        after="            failing += 0",
        test="tests/fedspeech/privacy/test_pricing.py::test_a_participation_limit_counts_in_every_world_where_a_phone_has_one",
    ),
    Mutant(
        part="publication",
        fault="what the server alone sees of a model is published",
        file="fedspeech/evaluation/metric.py",
        before='    return (item for item in items if item.visibility != "server")',
        after="    return (item for item in items)",
        test="tests/simulations/results/test_redaction.py::test_what_only_the_server_sees_and_what_is_of_single_phones_goes_whatever_it_is_called",
    ),
    Mutant(
        part="publication",
        fault="figures of single phones are published",
        file="fedspeech/evaluation/metric.py",
        before="charts=tuple(chart for chart in _public(self.charts) if not chart.single_phones)",
        after="charts=tuple(chart for chart in _public(self.charts))",
        test="tests/simulations/results/test_redaction.py::test_what_only_the_server_sees_and_what_is_of_single_phones_goes_whatever_it_is_called",
    ),
    Mutant(
        part="rollout",
        fault="a version that was taken comes again",
        file="fedspeech/rollout/phone.py",
        before="        if update.version <= state.newest:",
        after="        if update.version < state.newest:",
        test="tests/fedspeech/rollout/test_phone.py::test_versions_may_be_left_out_but_never_come_again",
    ),
    Mutant(
        part="rollout",
        fault="a rollback forgets the version that it leaves",
        file="fedspeech/rollout/phone.py",
        before="dataclasses.replace(self.state, current=previous, confirmed=True, previous=None)",
        after="dataclasses.replace(\n                    self.state, current=previous, confirmed=True, previous=None,\n                    newest=previous.version,\n                )",
        test="tests/fedspeech/rollout/test_phone.py::test_rollback_goes_to_the_last_that_worked_and_what_it_left_never_comes_again",
    ),
    Mutant(
        part="rollout",
        fault="what was never confirmed replaces the last adapter that worked",
        file="fedspeech/rollout/phone.py",
        before="            worked = self._good(self.state.current) if self.state.confirmed else None",
        after="            worked = self._good(self.state.current)",
        test="tests/fedspeech/rollout/test_phone.py::test_rollback_goes_to_the_last_that_worked_and_what_it_left_never_comes_again",
    ),
    Mutant(
        part="rollout",
        fault="the name of an adapter is written before the adapter",
        file="fedspeech/rollout/phone.py",
        before="            write_whole(self.folder / current.file, content)\n            return self._write(changed)",
        after="            changed = self._write(changed)\n            write_whole(self.folder / current.file, content)\n            return changed",
        test="tests/fedspeech/rollout/test_phone.py::test_a_kill_at_any_step_leaves_the_old_adapter_or_the_new_one",
    ),
    Mutant(
        part="rollout",
        fault="an update for another base is taken",
        file="fedspeech/rollout/phone.py",
        before='            ("base", update.base_sha256, state.base_sha256),\n',
        after="",
        test="tests/fedspeech/rollout/test_phone.py::test_another_key_base_model_or_time_is_refused",
    ),
    Mutant(
        part="rollout",
        fault="an expired update is taken",
        file="fedspeech/rollout/phone.py",
        before="        if now_s > update.expires_s:",
        after="        if now_s < 0:",
        test="tests/fedspeech/rollout/test_phone.py::test_another_key_base_model_or_time_is_refused",
    ),
    Mutant(
        part="rollout",
        fault="another user's own adapter is taken",
        file="fedspeech/rollout/phone.py",
        before="        if update.phone is not None and update.phone != state.phone:",
        after='        if update.phone is not None and state.phone == "":',
        test="tests/fedspeech/rollout/test_phone.py::test_another_users_own_adapter_is_refused_and_ones_own_comes_back",
    ),
    Mutant(
        part="rollout",
        fault="a damaged adapter is something to go back to",
        file="fedspeech/rollout/phone.py",
        before="            if hashlib.sha256(content).hexdigest() != one.sha256:",
        after="            if not content:",
        test="tests/fedspeech/rollout/test_phone.py::test_a_damaged_adapter_is_noticed_and_is_no_parent_and_nothing_to_go_back_to",
    ),
    Mutant(
        part="rollout",
        fault="the signature does not cover what kind of bundle it is",
        file="fedspeech/rollout/bundle.py",
        before="    if not signed_by(public, kind + header, signature):",
        after="    if not signed_by(public, UPDATE + header, signature) and not signed_by(\n        public, NEW_KEYS + header, signature\n    ):",
        test="tests/fedspeech/rollout/test_bundle.py::test_a_statement_of_keys_is_no_update_and_an_update_none_of_keys",
    ),
    Mutant(
        part="rollout",
        fault="a header may be written in several ways",
        file="fedspeech/rollout/bundle.py",
        before="        if found.to_header() != header:",
        after="        if not header:",
        test="tests/fedspeech/rollout/test_bundle.py::test_a_header_has_one_form",
    ),
    Mutant(
        part="rollout",
        fault="a personal adapter travels without a mark",
        file="fedspeech/rollout/bundle.py",
        before='    if card["phone"] != phone:',
        after='    if phone is not None and card["phone"] != phone:',
        test="tests/fedspeech/rollout/test_bundle.py::test_a_personal_adapter_does_not_travel_unless_it_is_marked",
    ),
    Mutant(
        part="rollout",
        fault="an adapter with noise from a seed is released",
        file="fedspeech/rollout/bundle.py",
        before='    if card["noise_notice"] and card["stage"] != "base" and not seeded_noise:',
        after='    if card["noise_notice"] and card["stage"] == "base" and not seeded_noise:',
        test="tests/fedspeech/rollout/test_bundle.py::test_noise_that_can_be_computed_is_not_released_unless_it_is_marked",
    ),
    Mutant(
        part="rollout",
        fault="accuracies that only a simulation knows are sent to phones",
        file="fedspeech/rollout/bundle.py",
        before='    if card["metrics_visibility"] == "public" or not card["metrics"]:',
        after='    if card["metrics_visibility"] or not card["metrics"]:',
        test="tests/fedspeech/rollout/test_bundle.py::test_accuracies_that_only_a_simulation_knows_stay_at_home",
    ),
    Mutant(
        part="rollout",
        fault="the signing key replaces keys",
        file="fedspeech/rollout/bundle.py",
        before='    header, rest = unframed(NEW_KEYS, content, trust.recovery, "the publisher\'s recovery key")',
        after='    header, rest = unframed(NEW_KEYS, content, trust.signing, "the publisher\'s recovery key")',
        test="tests/fedspeech/rollout/test_bundle.py::test_new_keys_are_signed_by_the_recovery_key_alone",
    ),
    Mutant(
        part="rollout",
        fault="a bundle that was exchanged is handed out",
        file="fedspeech/rollout/registry.py",
        before="        if hashlib.sha256(content).hexdigest() != stored.sha256:",
        after="        if not content:",
        test="tests/fedspeech/rollout/test_registry.py::test_a_changed_row_a_cut_and_a_changed_bundle_are_damage",
    ),
)

if __name__ == "__main__":
    sys.stdout.write(document())
