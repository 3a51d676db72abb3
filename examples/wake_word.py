# %% [markdown]
# # A wake word
#
# One target word, judged as a phone hears it: false rejects at a rate of false accepts per hour of
# a stream. The run is kept small; the scenario `wake-word` is the whole one, at two an hour.

# %%
import sys

import fedspeech as fs

experiment = fs.Experiment(
    scenario="wake-word",
    task=fs.Kws("computer"),
    corpus={"federated_phones": 60, "held_out_phones": 4, "validation_speakers": 4},
    plan={"rounds": 3, "participation_probability": 0.5},
    evaluation={"false_accepts_per_hour": 10.0, "stream_minutes": 6.0},
    seed=1,
    name="my-wake-word",
)
print(fs.budget(experiment))

# %%
run = fs.simulate(experiment, out=sys.argv[1] if len(sys.argv) == 2 else None)
run

# %%
print(run.metrics.where(headline=True))
print(run.guarantee)

# %%
run.report()
