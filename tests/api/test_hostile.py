"""Whatever is sent, the answer is a success or an error in the envelope, never a 5xx and never silence."""

import json
import socket
import threading
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.api import heads
from tests.api.test_files import upload
from tests.conftest import KEY, serving

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXT = st.text(max_size=20) | st.sampled_from(["\x00", "\ud800", "auto", "%00", "a/b", "..", "🦆"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "/fine_tuning/jobs": [
        "model",
        "training_file",
        "validation_file",
        "suffix",
        "seed",
        "metadata",
        "method",
        "hyperparameters",
        "integrations",
    ],
    "/uploads": ["filename", "purpose", "bytes", "mime_type", "expires_after"],
    "/uploads/upload_none/complete": ["part_ids", "md5"],
    "/fine_tuning/checkpoints/ft:a:b::c/permissions": ["project_ids"],
}
LISTS = ["/files", "/fine_tuning/jobs", "/fine_tuning/jobs/ftjob-x/events", "/fine_tuning/jobs/ftjob-x/checkpoints"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False) as running:
        yield running


def check(answer):
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", sorted(FIELDS))
def test_any_json_body(server, path):
    good = {
        "model": "smollm2-135m-instruct",
        "training_file": upload(server.client).id,
        "filename": "a",
        "purpose": "vision",
        "bytes": 5,
        "mime_type": "text/plain",
        "part_ids": ["part_x"],
        "project_ids": ["proj_x"],
    }
    start = {name: good[name] for name in FIELDS[path] if name in good}

    @QUICK
    @given(JSON | st.dictionaries(st.sampled_from(FIELDS[path]), JSON, max_size=4).map(lambda change: start | change))
    def send(body):
        headers = {"content-type": "application/json"}
        check(server.http.post(path, content=json.dumps(body).encode(), headers=headers))

    send()


@QUICK
@given(
    st.binary(max_size=60), st.sampled_from(["application/json", "multipart/form-data; boundary=a", "text/plain", ""])
)
def test_any_bytes(server, body, kind):
    for path in ("/files", "/fine_tuning/jobs", "/uploads"):
        check(server.http.post(path, content=body, headers={"content-type": kind}))


@QUICK
@given(st.dictionaries(st.sampled_from(["limit", "after", "order", "purpose", "metadata", "metadata[a]", "x"]), TEXT))
def test_any_query(server, query):
    sendable = {name: value.encode(errors="replace").decode() for name, value in query.items()}
    for path in LISTS:
        check(server.http.get(path, params=sendable))


@QUICK
@given(TEXT.map(lambda text: text.encode(errors="replace").decode()))
def test_any_id(server, name):
    for path in ("/files/{}", "/models/{}", "/fine_tuning/jobs/{}", "/fine_tuning/checkpoints/{}/permissions"):
        check(server.http.get(path.format(quote(name, safe=""))))


@pytest.mark.parametrize(
    ("first", "rest", "seconds", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\n", (b"x-a: " + b"v" * 1000 + b"\r\n") * 66, heads.HEAD_S, b"431 "),
        (b"GET /" + b"a" * 1000, b"b" * 66_000, heads.HEAD_S, b"431 "),
        (b"GET /v1/models HTTP/1.1\r\n", b"host: x\r\n", 0.5, b"408 "),
    ],
)
def test_headers_end_or_their_connection_does(server, monkeypatch, first, rest, seconds, status):
    """Before anybody has shown a key. No byte is sent beyond the one that is too many: a connection that is closed with
    some unread is reset, and the answer may be lost with it."""
    begun = threading.Event()
    begin = heads.LimitedHeads.on_message_begin
    monkeypatch.setattr(heads.LimitedHeads, "on_message_begin", lambda protocol: (begin(protocol), begun.set()))
    monkeypatch.setattr(heads, "HEAD_S", seconds)
    with socket.create_connection(urlsplit(server.url).netloc.split(":"), timeout=20) as connection:
        connection.sendall(first)
        assert begun.wait(20)  # what comes with a request's first byte is not counted
        connection.sendall(rest[: heads.HEAD_BYTES + 1])
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}
    assert server.client.models.list().data


@pytest.mark.parametrize("path", ["/v1/files", "/v1/chat/completions", "/v1/uploads/upload_x/parts"])
def test_a_wrong_key_is_answered_before_any_of_a_large_body_is_sent(server, path):
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-wrong\r\n"
    kind = "application/json" if "chat" in path else "multipart/form-data; boundary=a"
    with socket.create_connection(urlsplit(server.url).netloc.split(":"), timeout=20) as connection:
        connection.sendall(f"{head}content-type: {kind}\r\ncontent-length: {1 << 40}\r\n\r\n".encode())
        answer = b""
        while b"invalid_api_key" not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_bodies_in_one_piece_with_the_next_request_are_no_headers(server):
    body = json.dumps({"model": "none", "messages": [{"role": "user", "content": "x" * 200_000}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    request = head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(urlsplit(server.url).netloc.split(":"), timeout=20) as connection:
        connection.sendall(request + request[:40])
        connection.sendall(request[40:])
        answer = b""
        while answer.count(b"model_not_found") < 2:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
