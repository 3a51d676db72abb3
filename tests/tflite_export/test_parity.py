import numpy as np
import pytest
from scipy import stats

from fedspeech.errors import ExportRefused
from tflite_export.evidence import HeldOut
from tflite_export.parity import least_of_sample, require_answers, require_logits

LOGITS = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.6]], dtype=np.float32)


def moved(row, column, by):
    logits = LOGITS.copy()
    logits[row, column] += by
    return logits


def test_logits_within_the_limit_pass_with_their_figures():
    difference, agreement = require_logits("log_mel", LOGITS, moved(2, 1, 5e-5), speech=2)
    assert difference.figure == pytest.approx(5e-5, rel=0.01)
    assert difference.limit == 1e-4
    assert agreement.figure == 1.0
    assert difference.over == "3 inputs, 2 of them speech, to which torch gave 2 different answers"


@pytest.mark.parametrize("by", [2e-4, -2e-4, np.inf, np.nan])
def test_one_logit_beyond_the_limit_or_not_finite_is_refused(by):
    with pytest.raises(ExportRefused, match=r"log_mel logits, .*at most 0\.0001 .* 3 inputs.* got"):
        require_logits("log_mel", LOGITS, moved(2, 1, by), speech=2)


def test_the_limit_can_be_narrower():
    require_logits("frame", LOGITS, moved(0, 0, 9e-6), limit=1e-5, speech=1)
    with pytest.raises(ExportRefused, match="at most 1e-05"):
        require_logits("frame", LOGITS, moved(0, 0, 2e-5), limit=1e-5, speech=1)


def test_one_other_answer_is_refused_however_close_the_logits_are():
    tie = np.array([[0.5, 0.50001], [1.0, 0.0]], dtype=np.float32)
    flipped = np.array([[0.50002, 0.50001], [1.0, 0.0]], dtype=np.float32)
    with pytest.raises(ExportRefused, match=r"log_mel same answer: at least 1 .* got 0\.5"):
        require_logits("log_mel", tie, flipped, speech=1)


def test_another_number_of_labels_is_refused():
    with pytest.raises(ExportRefused, match="log_mel logits of another shape"):
        require_logits("log_mel", LOGITS, np.zeros((3, 3), dtype=np.float32), speech=1)


def people(users, clips):
    """Held-out users with `clips` clips of label 0 each, which torch answers rightly."""
    total = users * clips
    held_out = HeldOut(
        source="people",
        waveforms=np.zeros((total, 1), np.float32),
        labels=np.zeros(total, np.int64),
        users=np.repeat([f"user-{user}" for user in range(users)], clips),
    )
    logits = np.tile(np.array([1.0, 0.0], np.float32), (total, 1))
    return held_out, logits


def flipped(logits, rows):
    found = logits.copy()
    found[rows] = found[rows][:, ::-1]
    return found


def test_answers_that_agree_pass_with_agreement_drop_and_worst_user():
    held_out, logits = people(users=10, clips=50)
    checks = require_answers("int8", logits, flipped(logits, [3]), held_out, least_agreement=0.99)
    figures = {check.name: check.figure for check in checks}
    assert figures["int8 agreement"] == 0.998
    assert figures["int8 accuracy drop"] == pytest.approx(0.002)
    assert figures["int8 worst user's accuracy drop"] == pytest.approx(0.02)


def test_too_many_other_answers_are_refused_even_if_none_is_worse():
    held_out, logits = people(users=10, clips=50)
    held_out.labels[:12] = 1  # those that torch has wrong, and the file has right
    # P[Bin(500, 0.01) > 9] = 0.03 and P[Bin(500, 0.01) > 8] = 0.07: nine are allowed.
    require_answers("int8", logits, flipped(logits, range(9)), held_out, least_agreement=0.99)
    with pytest.raises(ExportRefused, match=r"int8 agreement: at least 0\.982 .* got 0\.98"):
        require_answers("int8", logits, flipped(logits, range(10)), held_out, least_agreement=0.99)


def test_a_drop_of_accuracy_is_refused_where_users_count_alike():
    held_out, logits = people(users=10, clips=50)
    # One clip of fifty for every user is 2 points; agreement alone would be allowed here.
    rows = np.arange(0, 500, 50)
    with pytest.raises(ExportRefused, match=r"accuracy drop: at most 0\.01 .* got 0\.02"):
        require_answers("int8", logits, flipped(logits, rows), held_out, least_agreement=0.9)


def test_one_user_who_pays_for_all_is_refused():
    held_out, logits = people(users=100, clips=50)
    allowed = flipped(logits, range(4))  # 1 - P[Bin(50, 0.01) <= 4] < 0.05 / 100 <= 1 - P[.. <= 3]
    require_answers("int8", logits, allowed, held_out, least_agreement=0.99)
    with pytest.raises(
        ExportRefused, match=r"worst user's accuracy drop: at most 0\.08 .* 50 clips"
    ):
        require_answers("int8", logits, flipped(logits, range(5)), held_out, least_agreement=0.99)


def test_a_sample_may_show_less_than_what_is_true_of_all_once_in_twenty():
    for count in (20, 96, 1_587):
        least = least_of_sample(0.9, count)
        lost = round((1 - least) * count)
        assert stats.binom.cdf(lost, count, 0.1) >= 0.95
        assert stats.binom.cdf(lost - 1, count, 0.1) < 0.95
    assert least_of_sample(1.0, 96) == 1.0
