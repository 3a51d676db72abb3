"""Words that scenarios and the command line no longer have, each with the word that replaced it.

They are refused, never translated: whoever wrote them reads the new word once, and a file means the
same to every reader. A key or option that is not in these tables was never one.
"""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "noise": "noise_entropy",
    "server": "server_optimizer",
    "corpus.unseen_phones": "corpus.held_out_phones",
    "corpus.clips_per_phone": "corpus.utterances_per_phone",
    "corpus.takes_per_word": "corpus.utterances_per_word",
    "corpus.unheard_accents": "corpus.new_accent_share",
    "corpus.unseen_speakers": "corpus.held_out_speakers",
    "corpus.sentences_per_unseen_phone": "corpus.sentences_per_held_out_phone",
    "training.background_clips": "training.negatives",
    "privacy.server": "privacy.threat_model",
    "privacy.quota": "privacy.max_participations",
    "privacy.quota_window": "privacy.participation_window",
    "privacy.min_survivors_share": "privacy.min_reporting_share",
    "personalization.takes": "personalization.shots",
    "personalization.headline_takes": "personalization.headline_shots",
    "personalization.background_clips": "personalization.negatives",
    "decoding.width": "decoding.beam_width",
    "decoding.prior_weight": "decoding.language_model_weight",
    "decoding.word_bonus": "decoding.word_insertion_bonus",
    "decoding.list_bonus": "decoding.contextual_bias",
    "decoding.judged_each_round": "decoding.evaluated_each_round",
}
"""Keys of scenarios; a section is named by its key."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "noise_entropy": {"rehearsal": "seeded"},
    "privacy.threat_model": {"lying": "malicious", "curious": "semi_honest"},
    "privacy.participation": {"limited": "round_robin"},
}
"""Values by the new key that they belong to."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "budget": {
        "--noise": "--noise-multiplier",
        "--clip": "--clip-norm",
        "--min-survivors": "--min-reporting",
    },
    "export": {"--rehearse": "--dry-run-round"},
    "listen": {
        "--smoothing": "--smoothing-ms",
        "--cooldown": "--cooldown-ms",
        "--evaluate": "--folder",
    },
    "tune": {"--within": "--max-accuracy-drop-points"},
    "deploy local": {"--rehearsal": "--seeded-noise"},
    "secagg bench": {"--server": "--threat-model"},
}
"""Options by command."""


def new_value(key: str, value: object) -> str | None:
    """The word that replaced a value of a key, if one did."""
    return VALUES.get(key, {}).get(value) if isinstance(value, str) else None
