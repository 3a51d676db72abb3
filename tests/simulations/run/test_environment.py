"""What a run stands on is described without naming host, user or path."""

import platform
from pathlib import Path

from simulations.results.environment import Environment
from simulations.run.environment import capture_environment


def test_environment_names_neither_host_nor_user_nor_path():
    text = capture_environment(torch_threads=1).model_dump_json()
    for private in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    found = Environment.model_validate_json(text)
    assert found.versions["numpy"]
    assert found.python == platform.python_version()
