"""`medseglens serve` as another machine meets it, and everything that can be wrong on the way there."""

import http.server
import os
import socket
import subprocess
import threading
import time

import httpx
import numpy as np
import pytest
from conftest import SECONDS, recipe_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import KEY, ROOT, free_port, make_certificate, serve_command, serving

from MedSegLensLib.errors import UsageError, WorkerError
from MedSegLensLib.worker import connection
from MedSegLensLib.worker.client import WorkerClient
from MedSegLensLib.worker.connection import full_address
from MedSegLensLib.worker.protocol import CLIENT_HEADER, PROTOCOL, PROTOCOL_HEADER, Message, encode


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def served(certificate):
    with serving(certificate) as server:
        yield server


def run_serve(*arguments: str, key: str | None = KEY) -> tuple[int, str]:
    environment = {k: v for k, v in os.environ.items() if k != "MEDSEGLENS_KEY"}
    if key:
        environment["MEDSEGLENS_KEY"] = key
    told = subprocess.run(
        serve_command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    return told.returncode, told.stderr


def test_a_case_goes_over_tls_and_gives_what_a_local_worker_gives(served, volumes, reference, pack, session):
    address, authority = served
    client = WorkerClient(address=address, key=KEY, tls_ca=authority)
    hello = client.start().result(SECONDS)
    assert hello.protocol == PROTOCOL and "CPU" in hello.device_line or hello.device != "cpu"
    remote = client.open_case(volumes, "remote", str(pack), reference).result(SECONDS)
    assert remote.opened.labels.shape == session.opened.labels.shape
    assert (remote.opened.labels != session.opened.labels).mean() < 0.001
    edited = remote.edit(recipe_for(remote.opened, (0, 3.0))).result(SECONDS)
    assert edited.box.labels.size and not client.messages()
    client.close()


def test_a_wrong_key_is_named_as_such(served):
    address, authority = served
    with pytest.raises(WorkerError, match="key is wrong"):
        WorkerClient(address=address, key="wrong", tls_ca=authority).start().result(SECONDS)
    with pytest.raises(UsageError, match="key"):
        WorkerClient(address=address, key=None, tls_ca=authority).start().result(SECONDS)


def test_an_unknown_certificate_is_not_trusted(served):
    with pytest.raises(WorkerError, match="certificate is not trusted"):
        WorkerClient(address=served[0], key=KEY).start().result(SECONDS)


def test_another_version_is_named_on_both_sides(served, monkeypatch):
    address, authority = served
    monkeypatch.setattr(connection, "PROTOCOL", PROTOCOL + 1)
    with pytest.raises(WorkerError, match=rf"this worker is MedSegLens .* the client speaks '{PROTOCOL + 1}'"):
        WorkerClient(address=address, key=KEY, tls_ca=authority).start().result(SECONDS)


def test_where_nothing_listens_that_is_said():
    with pytest.raises(WorkerError, match="nothing answers there"):
        WorkerClient(address=f"http://127.0.0.1:{free_port()}", key=KEY).start().result(SECONDS)


@pytest.mark.parametrize(("status", "words"), [(200, "something else"), (404, "something else"), (502, "a proxy")])
def test_something_else_that_answers_is_told_from_a_worker(status, words):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(WorkerError, match=words):
        WorkerClient(address=f"127.0.0.1:{server.server_port}", key=KEY).start().result(SECONDS)
    server.shutdown()


BAD_ADDRESSES = ["http://example.org:80", "ftp://127.0.0.1:1", "https://127.0.0.1", "a/b:1", "x:99999"]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_addresses_that_are_none_or_not_safe_are_refused(address):
    with pytest.raises(UsageError):
        full_address(address)


def test_an_address_without_a_scheme_is_encrypted_beyond_this_machine():
    assert full_address("127.0.0.1:8443") == "http://127.0.0.1:8443"
    assert full_address("imaging.example.org:8443/") == "https://imaging.example.org:8443"


def test_serving_others_without_key_or_tls_is_refused(tmp_path, certificate):
    assert run_serve(key=None)[0] == 2
    assert run_serve(key="short")[0] == 2
    code, told = run_serve("--host", "0.0.0.0")
    assert code == 2 and "without TLS" in told
    code, told = run_serve("--tls-certificate", str(certificate / "cert.pem"))
    assert code == 2 and "without its key" in told
    (tmp_path / "no.pem").write_text("no")
    code, told = run_serve("--tls-certificate", str(tmp_path / "no.pem"), "--tls-key", str(certificate / "key.pem"))
    assert code == 2 and "cannot be used" in told


def test_a_port_that_is_taken_is_said():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, told = run_serve("--port", str(other.getsockname()[1]))
    assert code == 2 and "another program listens there already" in told


PATHS = st.sampled_from(
    ["/heartbeat", "/cases", "/cases/x", "/cases/0123456789abcdef/edit", "/tasks/x/cancel", "/", "/%00"]
)
BODIES = st.binary(max_size=200) | st.builds(
    lambda fields: encode(Message("open", fields, {"t1n": np.zeros((2, 3, 4), np.int16)})),
    st.dictionaries(st.sampled_from(["case", "name", "volumes"]), st.text(max_size=9) | st.lists(st.integers())),
)


@given(method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]), path=PATHS, body=BODIES, keyed=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_brings_the_worker_down_or_gets_by_without_the_key(client, method, path, body, keyed):
    client.start().result(SECONDS)
    own = client._connection
    headers = {PROTOCOL_HEADER: str(PROTOCOL), CLIENT_HEADER: "fuzzer"}
    if keyed:
        headers["Authorization"] = own._http.headers["Authorization"]
    answer = httpx.request(method, own.address + path, content=body, headers=headers, timeout=SECONDS, trust_env=False)
    assert answer.status_code < 500
    assert keyed or answer.status_code == 401
    assert "memory_gb" in own.heartbeat()


@pytest.mark.slow
def test_a_client_that_falls_silent_loses_its_cases_and_can_come_back(certificate, volumes, pack, monkeypatch):
    from MedSegLensLib.worker import client as module

    port = free_port()
    arguments = serve_command("--port", str(port), "--lease", "1")
    server = subprocess.Popen(
        arguments, cwd=ROOT, env=os.environ | {"MEDSEGLENS_KEY": KEY}, stdout=subprocess.PIPE, text=True
    )
    try:
        server.stdout.readline()
        monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 3600)
        client = WorkerClient(address=f"127.0.0.1:{port}", key=KEY)
        session = client.open_case(volumes, "silent", str(pack)).result(SECONDS)
        time.sleep(2.5)
        assert client._connection.heartbeat()["cases"] == []
        assert session.edit(recipe_for(session.opened, (0, 3.0))).result(SECONDS).box is not None
        client.close()
    finally:
        server.terminate()
        server.wait(20)
