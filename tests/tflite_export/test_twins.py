"""Files that learn wrongly part from their twin in a long run of random calls.

The wrong ones are twins with one fault, so that no conversion is needed.
"""

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from fedspeech.seeds import stream
from tflite_export.personal_checks import personal_run
from tflite_export.twins import PersonalTwin, clip_losses_and_gradients, together

CLIPS = 8


def ignoring(signature, name, value):
    """A twin that always takes one input to be `value`."""

    class Wrong(PersonalTwin):
        def run(self, called, /, **inputs):
            if called == signature:
                inputs[name] = np.full_like(inputs[name], value)
            return super().run(called, **inputs)

    return Wrong


class KeepsMomentum(PersonalTwin):
    def take(self, adapter):
        velocity = self.velocity
        super().take(adapter)
        self.velocity = velocity


class KeepsTheStart(PersonalTwin):
    def take(self, adapter):
        start = self.start
        super().take(adapter)
        self.start = start


class RestoresAnything(PersonalTwin):
    def acceptable(self, adapter, base, claimed):
        return bool(np.isfinite(adapter).all())


class RestoresDamaged(PersonalTwin):
    def acceptable(self, adapter, base, claimed):
        return super().acceptable(adapter, base, self.run("save", call=None)["checksum"] * 0) or (
            np.array_equal(base, self._base) and bool((np.abs(adapter) <= 1e4).all())
        )


class ConstantLoss(PersonalTwin):
    def found(self, losses, counted, stepped):
        return super().found(np.full_like(losses, 1.0), counted, stepped)


class CountsEverybody(PersonalTwin):
    def found(self, losses, counted, stepped):
        return super().found(losses, counted, stepped) | {"counted": np.array([CLIPS], np.int32)}


class AlwaysStepped(PersonalTwin):
    def found(self, losses, counted, stepped):
        return super().found(losses, counted, True)


class TakesEveryLabel(PersonalTwin):
    def counted(self, embeddings, labels, present):
        return super().counted(embeddings, labels * 0, present)

    def differentiate(self, embeddings, labels):
        return super().differentiate(embeddings, np.clip(labels, 0, 5))


class ClipsTheSum(PersonalTwin):
    def train_dp(self, *, clip_norm, **inputs):
        self._bound = float(clip_norm[0])
        return super().train_dp(clip_norm=np.where(clip_norm > 0, 1e5, clip_norm), **inputs)

    def step(self, gradient, *rates, **settings):
        norm = np.linalg.norm(gradient)
        super().step(gradient * min(1, 1 / max(norm, 1e-9)), *rates, **settings)


class SavesTheStart(PersonalTwin):
    def save(self, call):
        values, self.values = self.values, self.start
        found = super().save(call)
        self.values = values
        return found


class NesterovMomentum(PersonalTwin):
    def step(self, gradient, learning_rate, momentum, proximal_mu):
        before = self.velocity
        super().step(gradient, learning_rate, momentum, proximal_mu)
        self.values = (self.values - learning_rate * momentum * (self.velocity - before)).astype(
            np.float32
        )


class TakesStrangeSettings(PersonalTwin):
    def settings_hold(self, present, settings):
        return True


class SumsInsteadOfMeans(PersonalTwin):
    def train(self, embeddings, labels, present, **settings):
        counted = self.counted(embeddings, labels, present)
        losses, gradients = self.differentiate(embeddings[counted], labels[counted])
        stepped = self.settings_hold(present, settings)
        if stepped:
            self.step(gradients.sum(axis=0) / CLIPS, **settings)
        return self.found(losses, counted, stepped)


class Forgets(PersonalTwin):
    """Right for a hundred calls."""

    calls = 0

    def run(self, called, /, **inputs):
        self.calls += called != "save"
        if self.calls >= 100:
            self.velocity = np.zeros_like(self.velocity)
        return super().run(called, **inputs)


class HopsByTheStart(PersonalTwin):
    def hop(self, samples):
        values, self.values = self.values, self.start
        found = super().hop(samples)
        self.values = values
        return found


class ForgetsWhenRestored(PersonalTwin):
    def take(self, adapter):
        super().take(adapter)
        self.heard = np.zeros_like(self.heard)


class ForgetsWhenTrained(PersonalTwin):
    def step(self, *given, **settings):
        super().step(*given, **settings)
        self.heard = np.zeros_like(self.heard)


class EmbedsWithoutMovingOn(PersonalTwin):
    def run(self, called, /, **inputs):
        heard = self.heard
        found = super().run(called, **inputs)
        if called == "embed_hop":
            self.heard = heard
        return found


class ResetsNothing(PersonalTwin):
    def reset(self, call):
        heard = self.heard
        found = super().reset(call)
        self.heard = heard
        return found


class ResetsTheAdapter(PersonalTwin):
    def reset(self, call):
        self.values = self.start
        return super().reset(call)


class ScoresByItsOwn(PersonalTwin):
    def run(self, called, /, **inputs):
        if called == "score_with":
            inputs["adapter"] = self.values
        return super().run(called, **inputs)


WRONG = {
    "hop by the start": HopsByTheStart,
    "restore resets the stream": ForgetsWhenRestored,
    "train resets the stream": ForgetsWhenTrained,
    "embed_hop does not move on": EmbedsWithoutMovingOn,
    "reset resets nothing": ResetsNothing,
    "reset resets the adapter": ResetsTheAdapter,
    "score_with scores by its own": ScoresByItsOwn,
    "train without present": ignoring("train", "present", 1),
    "train without proximal_mu": ignoring("train", "proximal_mu", 0),
    "train without momentum": ignoring("train", "momentum", 0),
    "train at one learning rate": ignoring("train", "learning_rate", 0.02),
    "train_dp without present": ignoring("train_dp", "present", 1),
    "train_dp without expected_clips": ignoring("train_dp", "expected_clips", CLIPS),
    "train_dp without momentum": ignoring("train_dp", "momentum", 0),
    "train_dp without proximal_mu": ignoring("train_dp", "proximal_mu", 0),
    "train_dp without noise": ignoring("train_dp", "noise", 0),
    "train_dp at one clip norm": ignoring("train_dp", "clip_norm", 1),
    "restore without base": RestoresAnything,
    "restore without checksum": RestoresDamaged,
    "restore keeps momentum": KeepsMomentum,
    "restore keeps the start": KeepsTheStart,
    "constant loss": ConstantLoss,
    "counts everybody": CountsEverybody,
    "always stepped": AlwaysStepped,
    "takes every label": TakesEveryLabel,
    "takes strange settings": TakesStrangeSettings,
    "clips the sum": ClipsTheSum,
    "saves the start": SavesTheStart,
    "another momentum": NesterovMomentum,
    "divides by the whole batch": SumsInsteadOfMeans,
    "forgets momentum from the hundredth call on": Forgets,
}


@pytest.fixture(scope="module")
def embeddings():
    return np.abs(stream(0, "twins").standard_normal((12, 24))).astype(np.float32)


def run(file, trained, embeddings, clips):
    return personal_run(file, PersonalTwin(trained), trained, embeddings, clips[0], CLIPS)


@pytest.mark.parametrize("name", WRONG)
def test_a_model_that_learns_or_listens_wrongly_is_refused(make_trained, embeddings, clips, name):
    trained = make_trained("head")
    with pytest.raises(ExportRefused, match="largest at call"):
        run(WRONG[name](trained), trained, embeddings, clips)


def test_the_same_model_passes_and_nothing_is_apart(make_trained, embeddings, clips):
    trained = make_trained("head")
    found = run(PersonalTwin(trained), trained, embeddings, clips)
    assert found.figure == 0
    assert found.over.startswith("150 random calls that nothing resets")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
def test_the_twin_is_what_training_does(make_trained, kind):
    """Two steps by the twin against torch's own optimizer."""
    import torch

    trained = make_trained(kind)
    twin = PersonalTwin(trained)
    rng = stream(0, "twin", kind)
    shape = (CLIPS, *trained.adapter.embedding_shape)
    x, labels = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 6, CLIPS)
    local = {k: torch.tensor(v[None]).requires_grad_() for k, v in trained.parameters.items()}
    optimizer = torch.optim.SGD(list(local.values()), lr=0.01, momentum=0.9)
    one = {"learning_rate": 0.01, "momentum": 0.9, "proximal_mu": 0.0}
    settings = {name: np.array([value], np.float32) for name, value in one.items()}
    for _ in range(2):
        logits = trained.adapter.logits(local, torch.from_numpy(x[None]))[0]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        found = twin.train(x, labels.astype(np.int32), np.ones(CLIPS, np.float32), **settings)
        np.testing.assert_allclose(found["loss"][0], loss.item(), rtol=1e-5)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    named = {name: value[0].detach().numpy() for name, value in local.items()}
    np.testing.assert_allclose(twin.values, twin.spec.flatten(named), atol=1e-5)


def test_answers_of_another_shape_or_name_are_infinitely_far(make_trained):
    twin = PersonalTwin(make_trained("head"))
    call = [("save", {"call": np.zeros(1, np.float32)})]

    class Other(PersonalTwin):
        def save(self, call):
            return super().save(call) | {"more": np.zeros(1)}

    with pytest.raises(ExportRefused, match=r"got inf"):
        together("save", Other(make_trained("head")), twin, call)


def test_losses_and_gradients_of_no_clip_are_none(make_trained):
    trained = make_trained("head")
    none = np.zeros((0, 24), np.float32)
    losses, rows = clip_losses_and_gradients(
        trained.adapter, trained.parameters, none, np.zeros(0, np.int64)
    )
    assert losses.shape == (0,)
    assert rows.shape == (0, trained.adapter.spec.size)
