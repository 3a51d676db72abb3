"""`fedspeech rollout`: from a plan to a rollback, with phones that find their own stage."""

import json
import math
import shutil

import pytest
from adapters_to_send import BASE, adapter_file, stepped
from tiny_experiment import tiny_scenario

import fedspeech as fs
from fedspeech.errors import FedspeechError, RolloutDamaged, RolloutRefused, ScenarioError
from fedspeech.hash_chain import forget_head
from fedspeech.rollout.bound import Bound
from fedspeech.rollout.decisions import Rollout
from fedspeech.rollout.plan import Evaluation, Stage
from simulations.commands import ota, registry, rollout

PLAN = """
phones = 100_000
[segments.accent]
north = 0.7
south = 0.3
[[stages]]
share = 0.1
windows = 3
[[stages]]
share = 1.0
[evaluation]
epsilon = inf
phone_stddev = 0.1
clips = 20
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a registry of two versions, a plan and two phones with the older one."""
    monkeypatch.chdir(tmp_path)
    ota.keys(tmp_path / "keys")
    content = adapter_file()
    registry.begin(tmp_path / "registry", trust=tmp_path / "keys" / "trust.json")
    for number in (1, 2):
        file = tmp_path / f"a{number}.safetensors"
        file.write_bytes(content)
        registry.publish(
            tmp_path / "registry", file, model="kitchen", key=tmp_path / "keys" / "signing.pem"
        )
        content = stepped(content)
    ota.enroll(
        tmp_path / "phone", adapter=tmp_path / "a1.safetensors", model="kitchen",
        trust=tmp_path / "keys" / "trust.json", version="0.1",
    )  # fmt: skip
    (tmp_path / "plan.toml").write_text(PLAN)
    yield tmp_path
    forget_head(tmp_path / "registry" / "registry.jsonl")
    forget_head(tmp_path / "rollout" / "rollout.jsonl")


def start(place, capsys):
    return printed(
        capsys, rollout.start, place / "rollout", place / "plan.toml",
        registry=place / "registry", model="kitchen",
    )  # fmt: skip


def printed(capsys, command, *arguments, **options):
    capsys.readouterr()
    command(*arguments, as_json=True, **options)
    return json.loads(capsys.readouterr().out)


def counts(place, first_day, south=0.9):
    def side(total, south):
        return [
            {"segment": f"accent={name}", "correct": share * total, "total": total,
             "noise_stddev": 0.0}
            for name, share in (("north", 0.9), ("south", south))
        ]  # fmt: skip

    window = {
        "first_day": first_day, "last_day": first_day + 6, "new": side(20_000.0, south),
        "old": side(100_000.0, 0.9),
    }  # fmt: skip
    file = place / f"window-{first_day}.json"
    file.write_text(json.dumps(window))
    return file


def release(place, name, adapter_sha256, first_day=1, south=0.9, measure="accuracy"):
    """A release of a federated evaluation, as `fedspeech analyze` writes it."""
    counts = [
        {"segment": f"accent={value}", "correct": share * 20_000, "total": 20_000,
         "noise_stddev": 30.0}
        for value, share in (("north", 0.9), ("south", south))
    ]  # fmt: skip
    found = {
        "first_day": first_day, "last_day": first_day + 6, "measure": measure,
        "adapter_sha256": adapter_sha256, "segment_counts": counts,
    }  # fmt: skip
    folder = place / name
    folder.mkdir(exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps({"evaluation": found}))
    return folder


def told(place, capsys):
    """What the phone does with the statement of the stage that is open."""
    rollout.statement(
        place / "rollout", out=place / "stage.bundle", key=place / "keys" / "signing.pem"
    )
    capsys.readouterr()
    rollout.hear(place / "stage.bundle", place / "phone")
    return capsys.readouterr().out.strip()


def test_from_a_plan_to_everybody_and_back(place, capsys):
    forecast = printed(capsys, rollout.plan, place / "plan.toml")
    assert forecast["refused"] == []
    assert 0 < forecast["detectable"][1]["smallest"] < 0.05
    found = start(place, capsys)
    assert (found["state"], found["share"], found["release"]["version"]) == ("watching", 0.1, "0.2")
    assert told(place, capsys) in ("take", "wait")
    found = printed(capsys, rollout.look, place / "rollout", counts(place, 1))
    assert found["state"] == "complete"
    assert told(place, capsys) == "take"
    fs.registry_latest(place / "registry", place / "next.bundle", base=BASE, have="0.1")
    ota.apply(place / "next.bundle", place / "phone")
    rollout.rollback(place / "rollout", reason="users complain")
    assert told(place, capsys) == "go back"
    ota.rollback(place / "phone")
    found = printed(capsys, rollout.status, place / "rollout", registry=place / "registry")
    assert (found["state"], found["share"], found["reason"]) == ("rolled back", 0, "users complain")


def test_looks_and_hands_are_printed_for_people(place, capsys):
    start(place, capsys)
    for command, reason in ((rollout.pause, "night"), (rollout.resume, "day")):
        command(place / "rollout", reason=reason)
    assert "smallest loss found" in capsys.readouterr().out
    rollout.look(place / "rollout", counts(place, 1, south=0.7))
    out = capsys.readouterr().out
    assert "rolled back, 0 % of the phones. accent=south lost 20.0 points" in out
    assert "harmed" in out
    with pytest.raises(RolloutRefused, match="rolled back cannot be promoted"):
        rollout.promote(place / "rollout", reason="once more")


def test_phones_that_wait_get_nothing_above_the_old_version(place):
    ask = {"folder": place / "registry", "out": place / "next.bundle", "base": BASE, "have": "0.1"}
    assert fs.registry_latest(**ask, most="0.1") is None
    assert str(fs.registry_latest(**ask).update.version) == "0.2"


def test_another_adapter_under_the_same_number_is_damage(place, capsys, tmp_path):
    start(place, capsys)
    other = tmp_path / "other"
    registry.begin(other, trust=place / "keys" / "trust.json")
    for seed in (7, 8):
        (place / "b.safetensors").write_bytes(adapter_file(seed=seed))
        registry.publish(
            other, place / "b.safetensors", model="kitchen", key=place / "keys" / "signing.pem"
        )
    with pytest.raises(RolloutDamaged, match=r"kitchen 0\.2 of .* is not what this roll-out"):
        rollout.status(place / "rollout", registry=other)
    forget_head(other / "registry.jsonl")


def test_files_that_are_none_are_refused_in_words(place, capsys):
    (place / "bad.toml").write_text("phones = 0")
    with pytest.raises(ScenarioError, match="phones must be at least 1"):
        rollout.plan(place / "bad.toml")
    (place / "few.toml").write_text("phones = 500\n[evaluation]\nepsilon = inf\n")
    with pytest.raises(RolloutRefused, match=r"a population of .* phones; no epsilon would"):
        rollout.start(
            place / "rollout", place / "few.toml", registry=place / "registry", model="kitchen"
        )
    with pytest.raises(FedspeechError, match="has published nothing for bath"):
        rollout.start(
            place / "rollout", place / "plan.toml", registry=place / "registry", model="bath"
        )
    start(place, capsys)
    (place / "window.json").write_text('{"first_day": 1, "last_day": 2, "new": [], "odl": []}')
    with pytest.raises(ScenarioError, match="are no counts of one window"):
        rollout.look(place / "rollout", place / "window.json")


def test_simulated_roll_outs_are_counted(place, capsys):
    found = printed(
        capsys, rollout.simulate, place / "plan.toml", loss=["accent=south:20"], seeds=3
    )
    assert found["rolled_back"] == 1
    assert found["mean_windows"] == 1
    with pytest.raises(ScenarioError, match="--loss is SEGMENT:POINTS"):
        rollout.simulate(place / "plan.toml", loss=["south"], seeds=1)
    with pytest.raises(ScenarioError, match="losses must be of accent=north, accent=south"):
        rollout.simulate(place / "plan.toml", loss=["accent=west:1"], seeds=1)


def test_the_page_says_what_was_decided_and_asks_for_nothing(place, capsys):
    start(place, capsys)
    rollout.look(place / "rollout", counts(place, 1, south=0.7))
    rollout.page(place / "rollout")
    page = (place / "rollout" / "rollout.html").read_text()
    assert "accent=south lost 20.0\u00a0points of accuracy" in page
    assert "http://" not in page.split("</style>")[0]
    assert "default-src &#39;none&#39;" in page


def test_two_releases_are_two_answers_that_the_plan_prices(place, capsys):
    start(place, capsys)
    with pytest.raises(RolloutRefused, match=r"evaluation\.answers = 1: set 2 in the plan"):
        rollout.look(place / "rollout", new=place / "new", old=place / "old")


def test_a_look_reads_one_release_of_each_version(place, capsys):
    (place / "plan.toml").write_text(PLAN + "answers = 2\n")
    served = start(place, capsys)
    new, old = (served[name]["parameters_sha256"] for name in ("release", "control"))
    assert new != old
    fine = release(place, "old", old)
    for folder, why in (
        (release(place, "swapped", old), "evaluates the adapter .* and kitchen 0.2 is"),
        (release(place, "late", new, first_day=8), "in the same window, got days .8, 14. and"),
    ):
        with pytest.raises(RolloutRefused, match=why):
            rollout.look(place / "rollout", new=folder, old=fine)
    with pytest.raises(ScenarioError, match="guardrails read accuracy, got word_errors"):
        rollout.look(
            place / "rollout", new=release(place, "words", new, measure="word_errors"), old=fine
        )
    with pytest.raises(ScenarioError, match="holds no release of an evaluation"):
        rollout.look(place / "rollout", new=place / "nothing", old=fine)
    with pytest.raises(ScenarioError, match="give the counts of a window, or both --new and --old"):
        rollout.look(place / "rollout", new=fine)
    found = printed(
        capsys, rollout.look, place / "rollout", new=release(place, "new", new, south=0.8), old=fine
    )
    assert found["state"] == "rolled back"
    assert found["looks"][0]["window"] == [1, 7]


@pytest.mark.slow
def test_a_release_that_was_analyzed_is_read_as_it_was_written(tmp_path):
    """Forty phones evaluate the base, which stands for both versions."""
    phones = fs.Experiment.from_scenario(tiny_scenario("corpus.federated_phones=40"))
    asked = {
        "name": "accuracy", "query": "evaluation", "segments": [{"name": "noise", "leave_out": []}],
        "k_min": 1, "epsilon": math.inf, "window": {"first_day": 7, "days": 7},
        "bound": {"max_per_cell": 4}, "settings": {"adapter": "base", "measure": "accuracy"},
        "privacy": {"mechanism": "none", "participation": "round_robin", "dropout_rate": 0.0},
    }  # fmt: skip
    found = fs.analyze(asked, phones, out=tmp_path / "release", progress=False)
    counted = found.evaluation
    hashes = dict.fromkeys(("base", "adapter", "card", "metrics"), "ab" * 32)
    release = Bound(
        model="kitchen", version="0.1", parameters_sha256=counted.adapter_sha256,
        **{f"{name}_sha256": value for name, value in hashes.items()},
    )  # fmt: skip
    names = [one.segment.partition("=")[2] for one in counted.segment_counts]
    plan = fs.RolloutPlan(
        phones=10**6, segments={"noise": dict.fromkeys(names, 1 / len(names))},
        evaluation=Evaluation(epsilon=math.inf, clips_per_phone=4, clips=4, k_min=1, answers=2),
    )  # fmt: skip
    Rollout.start(tmp_path / "rollout", plan, release=release, control=None)
    report = fs.rollout_look(tmp_path / "rollout", new=found.path, old=found.path)
    look = report.rollout.looks[-1]
    forget_head(tmp_path / "rollout" / "rollout.jsonl")
    assert look.window == (7, 13)
    assert {one.segment: one.total for one in look.segments} == {
        one.segment: one.total for one in counted.segment_counts
    }
    assert [one.difference for one in look.segments] == pytest.approx([0.0] * len(names))


@pytest.mark.slow
def test_one_release_counts_each_phone_for_the_version_that_it_serves(tmp_path):
    """The base stands for both versions; a stage of a half serves the new one to some 20 of 40."""
    phones = fs.Experiment.from_scenario(tiny_scenario("corpus.federated_phones=40"))
    asked = {
        "name": "both", "query": "evaluation", "segments": ["version", "noise"],
        "k_min": 1, "epsilon": math.inf, "window": {"first_day": 7, "days": 7},
        "bound": {"max_per_cell": 4},
        "settings": {"adapter": "base", "old": "base", "rollout": str(tmp_path / "rollout")},
        "privacy": {"mechanism": "none", "participation": "round_robin", "dropout_rate": 0.0},
    }  # fmt: skip

    def begin(parameters):
        hashes = dict.fromkeys(("base", "adapter", "card", "metrics"), "ab" * 32)
        bound = Bound(
            model="kitchen", version="0.1", parameters_sha256=parameters,
            **{f"{name}_sha256": value for name, value in hashes.items()},
        )  # fmt: skip
        plan = fs.RolloutPlan(
            phones=10**6, segments={"noise": {"quiet": 0.5, "loud": 0.5}},
            stages=(Stage(share=0.5, margin=0.05), Stage(share=1.0)),
            evaluation=Evaluation(epsilon=math.inf, clips_per_phone=4, clips=4, k_min=1),
        )  # fmt: skip
        Rollout.start(tmp_path / "rollout", plan, release=bound, control=None, key=b"k" * 32)

    with pytest.raises(ScenarioError, match=r"settings\.rollout: .* is no roll-out"):
        fs.analyze(asked, phones, out=tmp_path / "none", progress=False)
    begin("cd" * 32)
    with pytest.raises(ScenarioError, match=r"settings\.adapter must be kitchen 0\.1, which the"):
        fs.analyze(asked, phones, out=tmp_path / "other", progress=False)
    whole = {"segments": ["noise"], "settings": {"adapter": "base"}}
    ignored = whole | {"settings": {"adapter": "base", "old": "base"}}
    for bad in ({"segments": ["noise"]}, whole | {"segments": ["version"]}, ignored):
        with pytest.raises(
            ScenarioError, match=r"the segment 'version' and settings\.rollout, the"
        ):
            fs.analyze(asked | bad, phones, out=tmp_path / "bad", progress=False)
    every = fs.analyze(asked | whole, phones, out=tmp_path / "every", progress=False).evaluation
    shutil.rmtree(tmp_path / "rollout")
    forget_head(tmp_path / "rollout" / "rollout.jsonl")
    begin(every.adapter_sha256)
    found = fs.analyze(asked, phones, out=tmp_path / "both", progress=False)
    counted = found.evaluation
    assert counted.adapter_sha256 == counted.old_sha256 == every.adapter_sha256
    clips = {one.segment: one.total for one in counted.segment_counts}
    compared = 0
    for one in every.segment_counts:
        of_both = [clips.get(f"version={version},{one.segment}") for version in ("old", "new")]
        if None not in of_both:  # neither is withheld
            assert sum(of_both) == pytest.approx(one.total)
            assert min(of_both) > 0
            compared += 1
    assert compared
    report = fs.rollout_look(tmp_path / "rollout", found.path)
    assert report.rollout.looks[-1].window == (7, 13)
    with pytest.raises(ScenarioError, match="evaluates one adapter on every phone"):
        fs.rollout_look(tmp_path / "rollout", tmp_path / "every")
    forget_head(tmp_path / "rollout" / "rollout.jsonl")


def test_a_product_that_may_count_nothing_starts_no_roll_out(place):
    def begin(*changes):
        rollout.start(
            place / "rollout", place / "plan.toml", registry=place / "registry", model="kitchen",
            scenario="quick", changes=list(changes),
        )  # fmt: skip

    with pytest.raises(ScenarioError, match="rollout comes with stage 2"):
        begin("stage=1")
    assert not (place / "rollout").exists()
    begin("stage=2")
    assert (place / "rollout" / "rollout.jsonl").is_file()
