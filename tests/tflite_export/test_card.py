import json
import math

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export.card import LATER_TRAINING_NOTICE, SegmentAccuracy, require_identity


@pytest.fixture
def adapted(make_adapted):
    return make_adapted("affine")


@pytest.fixture
def card(base, adapted, make_card):
    return make_card(base, *adapted)


def test_both_forms_say_that_later_training_is_not_covered(card):
    assert "not covered by the stated epsilons" in " ".join(LATER_TRAINING_NOTICE.split())
    assert LATER_TRAINING_NOTICE in card.to_json()["notices"]
    assert LATER_TRAINING_NOTICE in card.to_markdown()


def test_both_forms_carry_the_guarantee_with_everything_it_needs(card):
    privacy = card.to_json()["privacy"]
    text = card.to_markdown()
    assert privacy["epsilon_release"] == 0.94
    for name in (
        "epsilon_release", "epsilon_server", "delta", "unit", "relation_release",
        "relation_server", "trust", "accountant", "rounds", "secure_aggregation",
    ):  # fmt: skip
        assert f"| {name} | {privacy[name]} |" in text
    assert card.privacy.words() in text


def test_the_notice_of_repeatable_noise_is_there_exactly_when_it_applies(
    base, adapted, make_card, card
):
    assert "repeatable noise" in card.to_json()["notices"]
    unseeded = make_card(base, *adapted, noise_notice=None)
    assert "repeatable" not in unseeded.to_markdown()
    assert len(unseeded.to_json()["notices"]) == len(card.to_json()["notices"]) - 1


def test_an_infinite_epsilon_is_written_out_in_both_forms(base, adapted, make_card):
    card = make_card(base, *adapted, epsilon_release=math.inf, epsilon_server=math.inf)
    written = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert written["privacy"]["epsilon_release"] == "Infinity"
    assert written["privacy"]["epsilon_server"] == "Infinity"
    assert "| epsilon_release | infinity |" in card.to_markdown()
    assert "NO PRIVACY GUARANTEE" in card.to_markdown()


def test_json_survives_a_round_trip_and_names_labels_base_data_and_versions(base, card):
    written = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert written == card.to_json()
    assert written["labels"] == ["yes", "no", "up", "down", "_unknown_", "_silence_"]
    assert written["outputs"] == "logits"
    assert written["base_sha256"] == base.sha256
    assert written["frontend"]["hop_samples"] == 320
    assert written["data_licences"] == {"embedded": "Apache-2.0"}
    assert written["metrics"][0]["accuracy"] == {"base": 0.5, "federated": 0.625}
    assert {"torch", "ai-edge-litert", "fedspeech"} <= set(written["versions"])


def test_segments_stand_in_the_text_with_counts_and_eye(card):
    text = card.to_markdown()
    assert "| segment | value | phones | base | federated |" in text
    assert "| accent | coastal | 30 | 0.5 | 0.625 |" in text
    assert "eye: simulator" in text


def test_a_card_without_a_number_for_epsilon_is_not_written(base, adapted, make_card):
    with pytest.raises(ValueError, match="epsilon_server must be a number, got nan"):
        make_card(base, *adapted, epsilon_server=math.nan)


@pytest.mark.parametrize("change", [{"phones": 0}, {"accuracy": {"base": 1.2}}])
def test_a_cell_without_phones_or_with_an_impossible_share_is_refused(change):
    values = {"segment": "accent", "value": "coastal", "phones": 3, "accuracy": {"base": 0.5}}
    with pytest.raises(ValueError, match="must"):
        SegmentAccuracy(**(values | change))


def test_a_card_is_accepted_for_its_own_model_and_refused_for_any_other(
    base, foreign_base, make_adapted, adapted, card
):
    adapter, parameters = adapted
    written = card.to_json()
    require_identity(written, base, adapter, parameters)
    with pytest.raises(ExportRefused, match="card: expected base_sha256"):
        require_identity(written, foreign_base, adapter, parameters)
    moved = parameters | {"scale": np.nextafter(parameters["scale"], np.float32(9))}
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        require_identity(written, base, adapter, moved)
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        require_identity(written, base, *make_adapted("head"))
    swapped = written | {"labels": ["no", "yes", *written["labels"][2:]]}
    with pytest.raises(ExportRefused, match="card: expected labels"):
        require_identity(swapped, base, adapter, parameters)
    with pytest.raises(ExportRefused, match="card: expected format"):
        require_identity({}, base, adapter, parameters)
