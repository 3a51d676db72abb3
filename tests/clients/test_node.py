"""A node runs the code that is installed on it, and refuses a bundle of any other."""

import io
import socket
import sys
import zipfile

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResultStatus

import clients.app
from clients import node
from fedspeech.errors import ProtocolAbort
from simulations.engines.flower import app_folder, free_port


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The bundle that this code makes of itself."""
    folder = tmp_path_factory.mktemp("bundle") / "app"
    app_folder(folder)
    return build_fab_from_disk(folder)


def repacked(bundle, change):
    """The bundle after `change` of its files by name."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_the_installed_code_is_recognized_however_it_was_packed(built):
    node.check_bundle(built)
    node.check_bundle(repacked(built, lambda files: files.update({"LICENSE": b"free"})))


CHANGES = {
    "one line more": lambda files: files.update(
        {"clients/app.py": files["clients/app.py"] + b"\nimport os\n"}
    ),
    "another byte": lambda files: files.update(
        {"fedspeech/round.py": b"#" + files["fedspeech/round.py"][1:]}
    ),
    "a file less": lambda files: files.pop("fedspeech/secagg/masks.py"),
    "a file more": lambda files: files.update({"clients/extra.py": b""}),
    "a huge one": lambda files: files.update({"clients/app.py": bytes(50 << 20)}),
    "nothing": lambda files: files.clear(),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_bundle_of_other_code_is_refused(built, change):
    with pytest.raises(ProtocolAbort, match="not the code that is installed on this node"):
        node.check_bundle(repacked(built, change))


@pytest.mark.parametrize("bundle", [b"", b"PK\x03\x04", bytes(1000), b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(bundle):
    with pytest.raises(ProtocolAbort, match="not the code that is installed on this node"):
        node.check_bundle(bundle)


def test_flower_is_given_the_installed_app_whatever_a_bundle_names():
    load = node._ANSWERING["get_load_client_app_fn"](default_app_ref="", multi_app=True)
    assert load("somebody/else", "9.9", "0" * 64) is clients.app.app


def test_a_flower_that_has_no_such_place_runs_nothing(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["node"])
    with pytest.raises(ProtocolAbort, match="does not know this flwr: json has no install"):
        node._call(lambda: pytest.fail("it ran"), [], {"json": {"install": None}})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--node-config", "partition-id=0 num-partitions=2"], "must name this node's own job"),
        ([], "must name this node's own job"),
        (["--node-config", 'job="/a/job.json"', "--isolation", "subprocess"], "is this node's own"),
    ],
)
def test_a_node_that_would_leave_a_choice_to_the_server_does_not_start(
    monkeypatch, capsys, options, words
):
    monkeypatch.setattr(node.subprocess, "Popen", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(SystemExit):
        node.main(["--superlink", "127.0.0.1:1", *options])
    assert words in capsys.readouterr().err


def hosted(port):
    """Starts a node with a job of its own at a port of this machine."""
    node.main(["--superlink", "127.0.0.1:1", "--port", str(port), "--node-config", 'job="/a"'])


def test_two_nodes_of_one_machine_never_share_a_port(monkeypatch, capsys):
    """The second one's processes would answer for the first."""
    monkeypatch.setattr(node.subprocess, "Popen", lambda *_: pytest.fail("it was begun"))
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(SystemExit):
            hosted(port)
    assert f"127.0.0.1:{port} is in use: give each node of a machine a --port" in (
        capsys.readouterr().err
    )


def test_what_a_node_begins_ends_with_it(monkeypatch):
    begun = []

    class Begun:
        def __init__(self, command):
            begun.append(command[3])

        def terminate(self):
            begun.append("ended")

    def fails():
        raise RuntimeError("SuperNode Runtime HTTP API failed to start.")

    monkeypatch.setattr(node.subprocess, "Popen", Begun)
    monkeypatch.setattr(node, "flower_supernode", fails)
    monkeypatch.setattr(sys, "argv", ["node"])
    with pytest.raises(RuntimeError):
        hosted(free_port())
    assert begun == ["start", "ended"]


def test_a_node_of_phones_begins_no_other_task(monkeypatch):
    """Flower's own node also runs agents, whose code is the server's."""
    monkeypatch.setattr(node.subprocess, "Popen", lambda *_: pytest.fail("it was begun"))
    executor = node.OwnCode()
    assert executor.get_eligible_capacity(set(TaskType), insecure=True)[0] == {TaskType.CLIENT_APP}
    spec = ExecutionSpec(
        task_type=TaskType.AGENT_APP, runtime_api_address="127.0.0.1:1", token="t", insecure=True,
        root_certificates_path=None, runtime_dependency_install=True, parent_pid=1,
        suppress_output=False, task_id=1,
    )  # fmt: skip
    assert executor.launch(spec).status == LaunchResultStatus.FAILED
