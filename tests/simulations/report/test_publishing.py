"""A page for everybody passes the gate, or is not written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shared_artifacts
import yaml
from made_once import quick_run
from sources import ROOT

import fedspeech as fs
from fedspeech.errors import ArgumentRefused
from fedspeech.rollout.signing import PrivateKey
from fedspeech.sharing.gate import GateRefused
from simulations.report import writing
from simulations.report.figures import MOST_NUMBERS, Figure, thinned

HOOK, WORKFLOW = (
    re.search(
        rf"^```{kind}\n({start}.*?)^```", (ROOT / "docs/sharing.md").read_text(), re.M | re.S
    )[1]
    for kind, start in (("sh", "#!/bin/sh"), ("yaml", "on:"))
)


def figure(points, lines=1, **more):
    x = list(range(points))
    trace = {"x": x, "y": x, "error_y": {"array": x, "type": "data"}, "mode": "lines"} | more
    return Figure(key="f", title="", visibility=(), says="", header=(), table=(),
                  traces=[dict(trace) for _ in range(lines)])  # fmt: skip


@pytest.mark.parametrize(("points", "lines"), [(200, 1), (200, 4), (5000, 3), (64, 4)])
def test_lines_of_a_chart_for_everybody_have_few_points_and_keep_their_ends(points, lines):
    found = thinned(figure(points, lines), MOST_NUMBERS).traces
    assert sum(len(trace["x"]) for trace in found) <= MOST_NUMBERS
    for trace in found:
        assert trace["x"] == trace["y"] == trace["error_y"]["array"]
        assert (trace["x"][0], trace["x"][-1], trace["mode"]) == (0, points - 1, "lines")


def test_a_grid_is_left_as_it_is():
    grid = figure(300, z=[[0.0] * 300])
    assert thinned(grid, 16) is grid


@pytest.mark.slow
def test_a_page_that_passes_is_written_with_its_manifest(tmp_path):
    run = fs.load_run(shutil.copytree(quick_run(), tmp_path / "run"))
    key = tmp_path / "signing.pem"
    signer = PrivateKey.create(key).public
    policy = tmp_path / "public.toml"
    policy.write_text(
        f'tier = "public"\nk_min = 5\nmost_numbers = 256\nepsilon = 20.0\nsigners = ["{signer}"]\n'
    )
    page = run.report(publish=True, policy=policy, key=key)
    assert fs.share_check(page.path, policy=policy).passed
    assert "Content-Security-Policy" in page.path.read_text()
    policy.write_text(policy.read_text().replace("k_min = 5", "k_min = 20"))
    with pytest.raises(GateRefused, match=r"small-cell, table .*, phones: .* at least 20 people"):
        run.report(publish=True, policy=policy)
    with pytest.raises(ArgumentRefused, match="set `publish`"):
        run.report(policy=policy)


@pytest.mark.slow
def test_a_page_that_does_not_pass_is_not_written_and_what_lay_there_stays(tmp_path, monkeypatch):
    run, render = fs.load_run(shutil.copytree(quick_run(), tmp_path / "run")), writing.render
    file = Path(run) / "report-public.html"
    file.write_text("of yesterday")

    def with_an_address(*given, **named):
        return render(*given, **named).replace("</body>", "<p>ann@example.org</p></body>")

    monkeypatch.setattr(writing, "render", with_an_address)
    with pytest.raises(GateRefused, match=r"(?s)report-public\.html does not pass.*personal-text"):
        run.report(publish=True)
    assert file.read_text() == "of yesterday"


def shared_folder(folder):
    """What lies in a repository: a policy, an artifact, its manifest."""
    (folder / "published").mkdir()
    case = shared_artifacts.good()["table"]
    (folder / "published" / "table.json").write_bytes(case.content)
    (folder / "published" / "table.json.manifest.json").write_bytes(case.manifest_bytes())
    (folder / "public.toml").write_text(
        f'tier = "public"\nrevocation_epoch = 3\nsigners = ["{shared_artifacts.KEY.public}"]\n'
    )


def environment():
    # As `pip install` leaves the command: on the path, whichever checkout this is.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}


@pytest.mark.slow
def test_the_hook_of_the_page_lets_a_good_commit_by_and_no_bad_one(tmp_path):
    def git(*words):
        given = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=.git/hooks")
        return subprocess.run(
            ["git", *given, *words], cwd=tmp_path, env=environment(), capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    git("init", "-q")
    hook = tmp_path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK)
    hook.chmod(0o755)
    shared_folder(tmp_path)
    git("add", "-A")
    assert git("commit", "-qm", "a table").returncode == 0
    table = tmp_path / "published" / "table.json"
    table.write_text(json.dumps({"rows": [{"accent": "isle", "phones": 3}]}))
    git("add", "-A")
    refused = git("commit", "-qm", "a cell of three")
    assert refused.returncode == 1
    assert "small-cell" in refused.stdout + refused.stderr
    assert git("log", "--format=%s").stdout.split("\n")[0] == "a table"


@pytest.mark.slow
def test_the_steps_of_the_workflow_end_with_the_status_of_the_gate(tmp_path):
    (job,) = yaml.safe_load(WORKFLOW)["jobs"].values()
    install, check = [step["run"] for step in job["steps"] if "run" in step]
    assert install == "pip install ."
    shared_folder(tmp_path)
    policy = tmp_path / "public.toml"
    for epoch, status in ((3, 0), (4, 1)):
        policy.write_text(re.sub(r"epoch = \d", f"epoch = {epoch}", policy.read_text()))
        done = subprocess.run(["bash", "-e", "-c", check], cwd=tmp_path, env=environment(),
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
