"""Small adapter files as exports make them, of a base that nobody has."""

import json

import numpy as np

from fedspeech.rollout.adapter_file import AdapterFile, hash_words

NOW = 1_800_000_000
DAY = 86_400
BASE = "ab" * 32
LABELS = ["yes", "no", "_unknown_"]


def adapter_file(values=None, *, base=BASE, seed=0, size=60, **card):
    """Bytes of an adapter file; `card` changes fields of its card."""
    if values is None:
        values = np.random.default_rng(seed).normal(0, 0.3, size)
    values = np.asarray(values, np.float32)
    fields = {
        "adapter": {"name": "head", "parameters": len(values)},
        "base_sha256": base,
        "labels": LABELS,
        "metrics": [],
        "metrics_visibility": "public",
        "noise_notice": None,
        "phone": None,
        "privacy": {"epsilon_release": 3.0, "epsilon_server": 4.0, "delta": 1e-5},
        "stage": "federated",
        "frontend_steps": ["Samples are mono, 16000 Hz, full scale 1."] * 3,
    } | card
    text = json.dumps(fields, sort_keys=True)
    return AdapterFile(values, hash_words(base), text).to_bytes()


def stepped(content, seed=1, step=1e-3):
    """The same file after a small step of every value."""
    found = AdapterFile.from_bytes(content)
    noise = np.random.default_rng(seed).normal(0, step, len(found.adapter))
    values = (found.adapter + noise).astype(np.float32)
    return AdapterFile(values, found.base, found.card_text).to_bytes()
