# %% [markdown]
# # Your own network
#
# A small CNN is trained in torch on public speakers and brought in as a frozen base. Phones train
# its head, then low-rank factors inside it (docs/own-model.md, docs/adapters.md).

# %%
import sys
from pathlib import Path

import torch
from torch import nn

import fedspeech as fs
from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import LOG_MEL

torch.manual_seed(0)
words = ("yes", "no", "stop", "go")
phones = {"federated_phones": 40, "held_out_phones": 4, "validation_speakers": 4}
public = fs.Experiment(scenario="quick", task=fs.Kws(words), corpus=phones, seed=7).speakers
clips = [clip for phone in public.partition.federated for clip in phone.utterances]
features = LogMel(LOG_MEL)(torch.from_numpy(public.corpus.waveforms(clips)))
labels = torch.from_numpy(public.task.labels.encode([clip.word for clip in clips]))


# %%
class Block(nn.Sequential):
    """One filter per channel over time, then a mixture of channels."""

    def __init__(self, channels):
        super().__init__(
            nn.Conv1d(channels, channels, 5, padding=2, groups=channels),
            nn.Conv1d(channels, channels, 1),
            nn.ReLU(),
        )


class Network(nn.Module):
    """Log-mel features (n, 98, 40) to frames (n, 49, 48)."""

    def __init__(self, channels=48):
        super().__init__()
        start = nn.Conv1d(40, channels, 5, stride=2, padding=2)
        self.layers = nn.Sequential(start, nn.ReLU(), Block(channels), Block(channels))

    def forward(self, log_mel):
        """As a base answers."""
        return self.layers(0.3 * log_mel.transpose(1, 2) + 3).transpose(1, 2)


# %%
network, head = Network(), nn.Linear(2 * 48, len(words) + 2)
optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=3e-3)
for _ in range(150):
    rows = torch.randint(len(clips), (64,))
    frames = network(features[rows])
    pooled = torch.cat([frames.mean(dim=1), frames.amax(dim=1)], dim=1)  # as fedspeech pools
    loss = nn.functional.cross_entropy(head(pooled), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
base = fs.Base.from_module(
    network, example=features[:1], log_mel=LOG_MEL, words=words, license="MIT",
    head=(head.weight.detach(), head.bias.detach()),
)  # fmt: skip
for adapter in ("head", fs.LoraSettings(rank=2, layers=("layers.2.1", "layers.3.1"))):
    experiment = fs.Experiment(
        scenario="quick", corpus=phones, task=fs.Kws(words), base=base, adapter=adapter,
        plan={"rounds": 3, "participation_probability": 0.8}, seed=1,
        server_optimizer={"learning_rate": 0.2},  # 40 phones do not drown the noise of a long step
    )  # fmt: skip
    out = Path(sys.argv[1]) / experiment.scenario.adapter if len(sys.argv) == 2 else None
    run = fs.simulate(experiment, out=out)
    print(run.metrics.where(section="accuracy", segment=None)[:4])
