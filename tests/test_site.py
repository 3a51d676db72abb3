"""The site of docs/: it is built without a broken link, and asks the network for nothing."""

import re
import subprocess
import sys

import pytest
from sources import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, strictly: MkDocs ends with an error on a broken link or a missing page."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_pitfall_names_tests_that_are_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "pitfalls.md").read_text("utf-8")))
    there = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert not [name for name in named if not re.search(rf"^def {name}\(", there, re.M)]


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    loading = r'<(?:script|img|link|iframe|source|video)\b[^>]*(?:src|href)="(?:https?:)?//'
    for page in site.rglob("*.html"):
        assert not re.search(loading, page.read_text("utf-8")), page.name
    styles = [file.read_text("utf-8") for file in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"url\(\s*['\"]?(?:https?:)?//", text) for text in styles)


@pytest.mark.slow
def test_every_command_and_every_public_name_has_its_place(site):
    import fedspeech

    commands = (site / "commands.html").read_text("utf-8")
    assert {"simulate", "share-check", "rollout-start"} <= set(
        re.findall(r'<h2 id="([\w-]+)"', commands)
    )
    interface = (site / "api.html").read_text("utf-8")
    for name in fedspeech.PUBLIC:
        assert f"fs.{name}" in interface
