"""Certificates that a TLS stack accepts, and refuses where it must."""

import socket
import ssl
import threading

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from simulations.engines.certificates import Authority


def handshake(authority, root):
    """A TLS handshake on the loopback interface: None, or the client's complaint."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.server())
    client = ssl.create_default_context(cafile=root)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
    ours, theirs = socket.socketpair()

    def serve():
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname="127.0.0.1"):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()


def test_the_authoritys_server_is_known_and_no_other(tmp_path):
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    assert handshake(authority, authority.certificate) is None
    (tmp_path / "a" / "server.pem").unlink()
    (tmp_path / "a" / "server.key").unlink()
    assert handshake(authority, other.certificate) in (
        "unable to get local issuer certificate", "certificate signature failure",
    )  # fmt: skip


def test_a_nodes_keys_belong_together_and_only_this_user_reads_them(tmp_path):
    authority = Authority(tmp_path / "keys")
    private, public = authority.node("node-0")
    key = load_ssh_private_key(private.read_bytes(), None)
    assert key.public_key() == load_ssh_public_key(public.read_bytes())
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "keys").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in authority.certificate.read_bytes()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    with pytest.raises(FileExistsError):
        Authority(tmp_path)
