"""Every place that removes or renames files, and what it may touch: never what others made."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("fedspeech", "clients", "server", "simulations", "tflite_export")
REMOVING = {"rmtree", "unlink", "rmdir", "rename", "copytree", "copyfile", "removedirs"}

# Module and function: what is touched. "Named" are files that the program itself names and makes.
MAY_TOUCH = {
    ("fedspeech/files.py", "write_whole"): "a partial file beside the one that is replaced",
    (
        "fedspeech/files.py",
        "remove_made",
    ): "named files; folders only where nothing is left in them",
    ("fedspeech/population.py", "save"): "a new folder of arrays under the name of its content",
    ("fedspeech/secagg/keys.py", "create"): "a partial file beside a new secret",
    ("fedspeech/hash_chain.py", "forget_head"): "the head of a chain that is gone",
    ("fedspeech/device/key_store.py", "destroy"): "the named file of a wrapping key",
    ("fedspeech/sharing/placeholders.py", "destroy"): "the named key of a release",
    ("clients/durable_state.py", "write"): "named files of older rounds",
    (
        "clients/durable_state.py",
        "go_back",
    ): "named files of rounds that a run of seeded noise replays",
    (
        "fedspeech/models/exported/folder.py",
        "write_folder",
    ): "a new folder, renamed to where nothing or the named files of a base were",
    (
        "fedspeech/models/adapters/files.py",
        "save_adapter",
    ): "the named description of low-rank factors that were there before",
    ("server/app.py", "serve"): "`failed.txt` beside a job",
    ("server/app.py", "_play"): "the secret of correlated noise, when the last round is over",
    ("server/resuming.py", "_write_secret"): "a partial file beside a new secret",
    ("server/grids.py", "send_and_receive"): "`waiting.txt` beside a job",
    ("simulations/engines/watchdog.py", "main"): "the folder `flower` of a run",
    ("simulations/engines/flower.py", "__init__"): "the folder `flower` of a run",
    ("simulations/engines/flower.py", "close"): "the folder `flower` of a run",
    ("simulations/engines/flower.py", "run"): "a named file of a run behind Flower",
    ("server/rows.py", "__call__"): "the named checkpoint of a round that was handed on",
    ("simulations/run/left_by_shards.py", "_taken"): "named files in the folder `eye` of a run",
    (
        "simulations/run/preparing.py",
        "prepare",
    ): "copies into a folder that was new or empty; its link to a ledger",
    ("simulations/run/runner.py", "finish"): "the folders `eye` and `phones` of a run",
    ("simulations/run/resume.py", "_begun"): "the folder `eye` of a run",
    (
        "simulations/analytics/releasing.py",
        "_forget_sums",
    ): "the folders `checkpoints` and `phones` of a release that has its answer",
    ("simulations/tuning/search.py", "__enter__"): "the folder `trials` of a tuning",
    ("simulations/tuning/search.py", "__exit__"): "the folder `trials` of a tuning",
    ("simulations/tuning/tuner.py", "_write_scenario"): "`recommended.toml` of a tuning",
    ("tflite_export/publishing.py", "_publish"): "named files of an export",
}


def removals():
    """Yields module and function of every call that removes, renames or copies over."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if not any(word in text for word in (*REMOVING, "os.re")):
                continue  # parsing every file takes seconds
            tree = ast.parse(text)
            for function in ast.walk(tree):
                if not isinstance(function, ast.FunctionDef):
                    continue
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                        on_os = isinstance(call.func.value, ast.Name) and call.func.value.id == "os"
                        if call.func.attr in REMOVING or (
                            on_os and call.func.attr in ("replace", "remove")
                        ):
                            yield file.relative_to(ROOT).as_posix(), function.name


def test_nothing_is_removed_outside_the_places_that_are_known():
    assert set(removals()) == set(MAY_TOUCH)
