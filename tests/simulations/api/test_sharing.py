"""The gate as a user meets it: files, exit statuses, words."""

import json
from dataclasses import replace

import pytest
import shared_artifacts
from made_once import quick_run
from typer.testing import CliRunner

import fedspeech as fs
from fedspeech.errors import (
    AccessRefused,
    ArgumentRefused,
    ChainDamaged,
    FedspeechError,
    ScenarioError,
)
from fedspeech.sharing.gate import GateRefused
from fedspeech.sharing.policy import Policy
from simulations.cli import app

GOOD = shared_artifacts.good()


def write(folder, name, case):
    """An artifact and its manifest."""
    case = replace(case, name=name, manifest=replace(case.manifest, file=name))
    (folder / name).write_bytes(case.content)
    (folder / f"{name}.manifest.json").write_bytes(case.manifest_bytes())
    return folder / name


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "policies" / "public.toml"
    file.parent.mkdir()
    (file.parent / "people.txt").write_text("Zoë Marchetti\n\nspk-0042\n")
    file.write_text(
        f'tier = "public"\nrevocation_epoch = 3\nsigners = ["{shared_artifacts.KEY.public}"]\n'
        'identities = "people.txt"\n'
    )
    return file


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "given"
    place.mkdir()
    return place


def command(*arguments):
    done = CliRunner().invoke(app, ["share", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_good_file_ends_with_status_0_and_a_bad_one_with_1(folder, policy):
    file = write(folder, "table.json", GOOD["table"])
    code, output = command("check", file, "--policy", policy, "--json")
    assert (code, json.loads(output)) == (0, {"passed": True, "findings": []})
    file.write_text(file.read_text().replace("60", "61"))
    code, output = command("check", file, "--policy", policy, "--json")
    (found,) = json.loads(output)["findings"]
    assert (code, found["rule"]) == (1, "manifest-of-another-file")
    assert set(found) == {"rule", "where", "why"}


def test_a_manifest_elsewhere_is_named(folder, policy, tmp_path):
    file = write(folder, "table.json", GOOD["table"])
    beside = folder / "table.json.manifest.json"
    elsewhere = beside.rename(tmp_path / "m.json")
    assert not fs.share_check(file, policy=policy).passed
    assert fs.share_check(file, policy=policy, manifest=elsewhere).passed


def test_a_revocation_calls_back_what_had_passed(folder, policy):
    write(folder, "table.json", GOOD["table"])
    write(folder, "notes.md", GOOD["words"])
    assert fs.share_recheck(folder, policy=policy).passed
    policy.write_text(policy.read_text().replace("epoch = 3", "epoch = 4"))
    found = fs.share_recheck(folder, policy=policy)
    rules = [{finding.rule for finding in check.findings} for check in found.checks]
    assert rules == [{"consent"}, {"consent"}]
    assert command("recheck", folder, "--policy", policy)[0] == 1


def test_a_file_without_a_manifest_and_a_manifest_without_a_file_are_found(folder, policy):
    write(folder, "table.json", GOOD["table"]).unlink()
    (folder / "other.md").write_text("words")
    found = fs.share_recheck(folder, policy=policy)
    assert [check.findings[0].rule for check in found.checks] == [
        "manifest-missing",
        "artifact-missing",
    ]


def test_what_cannot_be_checked_is_said(folder, policy, tmp_path):
    with pytest.raises(FedspeechError, match=r"missing\.json"):
        fs.share_check(folder / "missing.json", policy=policy)
    with pytest.raises(FedspeechError, match="holds no file"):
        fs.share_recheck(folder, policy=policy)
    with pytest.raises(ScenarioError, match="no policy"):
        fs.share_check(folder, policy=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tier = "public"\nk_mim = 5', "unknown key k_mim"),
        ('tier = "public"\nk_min = 1', "k_min must be"),
        ('tier = "public"\nk_min = 2.5', "k_min must be a whole number"),
        ('tier = "everybody"', "tier must be"),
        ('tier = "public"\nepsilon = inf', "epsilon must be"),
        ('tier = "public"\nidentities = "nobody.txt"', "nobody.txt"),
        ('tier = "public"\n[heads]\n"a" = "x"', "NUMBER:SHA256"),
        ("k_min = 5", "tier"),
    ],
)
def test_a_policy_that_is_none_is_refused(tmp_path, line, said):
    file = tmp_path / "policy.toml"
    file.write_text(line + "\n")
    with pytest.raises(ScenarioError, match=said):
        Policy.load(file)


@pytest.mark.slow
def test_files_of_a_run_pass_the_gate_or_are_not_written(tmp_path):
    run, keys = quick_run(), tmp_path / "keys"
    signing = json.loads((fs.ota_keys(keys) / "trust.json").read_text())["signing"]
    for tier in ("public", "partner"):
        policy = tmp_path / f"{tier}.toml"
        policy.write_text(
            f'tier = "{tier}"\nk_min = 5\nmost_numbers = 200\nepsilon = 20\n'
            f'signers = ["{signing}"]\n'
        )
        given = {"to": tier, "policy": policy, "key": keys / "signing.pem", "purpose": "a trial"}
        with pytest.raises(FedspeechError, match="drawn from its seed"):
            fs.share(run, out=tmp_path / tier, **given)
        assert not (tmp_path / tier).exists()
        found = fs.share(run, out=tmp_path / tier, seeded_noise=True, **given)
        assert ("adapter.safetensors" in found.files) == (tier == "partner")
        assert fs.share_recheck(tmp_path / tier, policy=policy).passed
        assert "not for release" in (tmp_path / tier / "summary.json").read_text()
        with pytest.raises(ArgumentRefused, match="new or empty"):
            fs.share(run, out=tmp_path / tier, seeded_noise=True, **given)
        policy.write_text(policy.read_text().replace("epsilon = 20", "epsilon = 0.1"))
        with pytest.raises(GateRefused, match=r"at most 0\.1 may have been spent"):
            fs.share(run, out=tmp_path / "nothing", seeded_noise=True, **given)
        assert not (tmp_path / "nothing").exists()


def test_reads_go_through_the_door_and_stand_in_the_log(folder, policy, tmp_path):
    file = write(folder, "table.json", GOOD["table"])
    given = ("--policy", policy, "--purpose", "an audit", "--actor", "ann")
    code, _ = command("read", file, *given, "--as", "partner", "-o", tmp_path / "copy.json")
    assert (code, (tmp_path / "copy.json").read_bytes()) == (0, file.read_bytes())
    inner = folder / "summary.json"
    inner.write_text("{}")
    code, _ = command("read", inner, *given, "--as", "partner", "-o", tmp_path / "inner.json")
    assert (code, (tmp_path / "inner.json").exists()) == (1, False)
    with pytest.raises(AccessRefused, match="may not read the log"):
        fs.share_log(policy, purpose="curious", role="partner")
    found = fs.share_log(policy, purpose="an audit", role="auditor")
    assert [row["kind"] for row in found.rows] == ["read", "refused", "refused", "read"]
    log = policy.parent / "access.jsonl"
    log.write_bytes(log.read_bytes().replace(b"partner", b"auditor", 1))
    with pytest.raises(ChainDamaged):
        fs.share_check(file, policy=policy)


def test_placeholders_pass_the_gate_until_nobody_can_tell_who_they_are(folder, policy, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("# Notes\n\nZoë Marchetti gains most.\n")
    key, shared = tmp_path / "release.key", folder / "notes.md"
    fs.share_pseudonymize(notes, policy=policy, key=key, out=shared)
    assert "Zoë" not in shared.read_text()
    assert {found.rule for found in fs.share_check(shared, policy=policy).findings} == {
        "manifest-missing"
    }
    with pytest.raises(AccessRefused):
        fs.share_destroy(key, policy=policy, purpose="asked for", role="analyst")
    assert key.exists()
    name = fs.share_destroy(key, policy=policy, purpose="asked for")
    row = fs.share_log(policy, purpose="an audit").rows[-2]
    assert (row["kind"], row["artifact"], key.exists()) == ("destroyed", name, False)
