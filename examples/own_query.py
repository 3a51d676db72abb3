# %% [markdown]
# # Your own question to the phones
#
# A round can ask anything that a phone answers with a short vector. The plan clips and noises it,
# the protocol masks it, the ledger is charged before anything is sent. Here: how many clips does a
# phone hold on average, public ones included? (docs/architecture.md, "Query")

# %%
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fedspeech as fs
from fedspeech.own_code import hand_over
from fedspeech.privacy.ledger import Ledger
from fedspeech.queries.query import Query
from fedspeech.round import ServerState, run_round
from fedspeech.vectors import GlobalState
from simulations.setup.experiment import build_experiment


@dataclass(frozen=True, kw_only=True)
class MeanClips(Query):
    """The mean number of clips on a phone, over `most`."""

    most: int = 32
    dimension = 1

    def initial(self, arrays):
        """Nothing is known."""
        return GlobalState(np.zeros(1))

    def contributions(self, phones, model, rngs):
        """One number in [0, 1] of each phone."""
        return [np.array([min(len(phone) / self.most, 1)], np.float32) for phone in phones]

    def update(self, state, mean):
        """Keeps the last answer."""
        return GlobalState(mean)


hand_over(MeanClips)  # a deployment imports it from an installed package instead

# %% [markdown]
# The phones of an experiment, with this query in the place of training. A contribution has one
# coordinate of at most 1, so the clip norm is 1.

# %%
experiment = fs.Experiment(
    scenario="quick",
    corpus={"federated_phones": 60, "held_out_phones": 2, "validation_speakers": 2},
    plan={"participation_probability": 0.8, "noise_multiplier": 2.0, "rounds": 3},
)
folder = Path(tempfile.mkdtemp())
built = build_experiment(
    experiment, cache=folder, simulation_only=None, workers=1, progress=lambda done, total: None
)
query = MeanClips()
plan = dataclasses.replace(built.job.plan, dimension=query.dimension, clip_norm=1.0)
job = dataclasses.replace(built.job, query=query, plan=plan)
arrays = job.load_arrays()

# %%
ledger = Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
state = ServerState.initial(job, arrays)
for number in range(plan.rounds):
    state, _ = run_round(query, state, job, arrays, ledger, number)
    answer = query.most * float(state.query.parameters[0])
    print(f"round {number + 1}: {answer:.1f} clips on a phone")
true = np.mean([len(arrays.phone(phone)) for phone in range(plan.population)])
print(f"the truth, which only a simulation knows: {true:.1f}")
print(ledger.guarantee().epsilon_release, "is epsilon against readers of the answers")
