import base64
import hashlib
import io
import json
import socket
import time
from urllib.parse import urlsplit

import openai
import pytest

from luthier.core.files import FileObject
from luthier.domain import files
from luthier.store import files as rows
from tests.conftest import KEY, serving
from tests.databases import IN_A_FOLDER, blobs_of
from tests.patience import PATIENCE_S

LINE = json.dumps({"messages": [{"role": "user", "content": "hallo"}, {"role": "assistant", "content": "halo"}]})
JSONL = (LINE + "\n").encode() * 10


def upload(client, content=JSONL, name="chats.jsonl", purpose="fine-tune", **more):
    return client.files.create(file=(name, io.BytesIO(content)), purpose=purpose, **more)


def test_create_retrieve_read_delete(client):
    made = upload(client)
    assert made.id.startswith("file-")
    assert (made.bytes, made.filename, made.purpose, made.status) == (
        len(JSONL),
        "chats.jsonl",
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == JSONL
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.delete(made.id)


def test_deleting_removes_the_bytes(server):
    made = upload(server.client)
    assert made.id in blobs_of(server)
    server.client.files.delete(made.id)
    assert made.id not in blobs_of(server)


@IN_A_FOLDER
def test_files_are_for_nobody_else_on_the_machine(server):
    made = upload(server.client)
    blob = server.platform.settings.data / "blobs" / made.id
    assert blob.read_bytes() == JSONL
    assert blob.stat().st_mode & 0o777 == 0o600


def test_wait_for_processing_returns_at_once(client):
    assert client.files.wait_for_processing(upload(client).id).status == "processed"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"not json\n", "Line 1"),
        (JSONL + b'{"messages": [}\n', "Line 11"),
        (JSONL + b"[1, 2]\n", "Line 11: it is valid JSON, but not a dictionary"),
        (b'{"a": 1}\n"text"', "Line 2"),
        (b"", "no lines"),
        (b"\n\n \n", "no lines"),
        (b'{"a": "\xff"}\n', "Line 1: it is not UTF-8, save the file as UTF-8"),
        ('{"a": 1}\n'.encode("utf-16"), "Line 1: it is not UTF-8"),
        (b"[" * 100_000, "Line 1"),
        (b'{"a": ' * 100_000, "Line 1"),
    ],
)
@pytest.mark.parametrize("purpose", ["fine-tune", "evals"])
def test_what_is_not_jsonl_is_refused_with_its_line(server, content, line, purpose):
    before = blobs_of(server)
    answer = server.http.post("/files", data={"purpose": purpose}, files={"file": ("a.jsonl", content)})
    assert answer.status_code == 400
    error = answer.json()["error"]
    expected = "Expected file to have JSONL format, where every line is a valid JSON dictionary."
    assert error["message"].startswith(expected)
    assert line in error["message"]
    assert blobs_of(server) == before


def test_jsonl_may_have_a_bom_blank_lines_crlf_and_no_last_newline(client):
    content = b"\xef\xbb\xbf" + LINE.encode() + b"\r\n\r\n" + LINE.encode()
    assert upload(client, content).bytes == len(content)


def test_other_purposes_take_any_bytes(client):
    content = bytes(range(256)) * 5000
    made = upload(client, content, name="photo.png", purpose="vision")
    assert client.files.content(made.id).content == content


def test_a_line_longer_than_the_limit_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="Line 1: it is longer than 16 MiB"):
        upload(client, b'{"a": "' + b"x" * (17 << 20) + b'"}')


def test_the_purpose_may_come_after_the_file(http):
    border = "x" * 20
    body = (
        f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="bücher.jsonl"\r\n\r\n{LINE}\r\n'
        f'--{border}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--{border}--\r\n'
    )
    headers = {"content-type": f"multipart/form-data; boundary={border}"}
    answer = http.post("/files", content=body.encode(), headers=headers)
    assert answer.status_code == 200
    assert answer.json()["filename"] == "bücher.jsonl"
    content = http.get(f"/files/{answer.json()['id']}/content")
    assert content.headers["content-disposition"] == "attachment; filename*=UTF-8''b%C3%BCcher.jsonl"


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({}, "missing_required_parameter", "purpose"),
        ({"purpose": "fine_tune"}, "invalid_value", "purpose"),
        ({"purpose": "fine-tune", "colour": "blue"}, "unknown_parameter", "colour"),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "created_at"},
            "missing_required_parameter",
            "expires_after.seconds",
        ),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
            "integer_below_min_value",
            "expires_after.seconds",
        ),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"},
            "invalid_type",
            "expires_after.seconds",
        ),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
            "invalid_value",
            "expires_after.anchor",
        ),
    ],
)
def test_wrong_fields_are_named(http, form, code, param):
    answer = http.post("/files", data=form, files={"file": ("a.jsonl", JSONL)})
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_what_is_no_form_is_refused(http):
    assert http.post("/files", json={"purpose": "fine-tune"}).status_code == 400
    missing = http.post("/files", data={"purpose": "fine-tune"}, files={"wrong": b"x"})
    assert missing.json()["error"]["param"] == "file"
    headers = {"content-type": "multipart/form-data; boundary=abc"}
    for body in (b"", b"--abc", b"--other\r\n\r\n", b'--abc\r\nContent-Disposition: form-data; name="file"\r\n\r\nx'):
        answer = http.post("/files", content=body, headers=headers)
        assert answer.status_code == 400, body
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_form_with_two_files_is_refused(http):
    two = [("file", ("a.jsonl", JSONL)), ("file", ("b.jsonl", JSONL))]
    assert http.post("/files", data={"purpose": "fine-tune"}, files=two).status_code == 400


def raw_upload(server, *headers, body=b""):
    """A connection that has sent these headers and this body."""
    connection = socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=10)
    lines = ["POST /v1/files HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode() + body)
    return connection


def test_a_file_over_the_limit_is_refused_before_it_is_read(server):
    form = "Content-Type: multipart/form-data; boundary=abc"
    with raw_upload(server, form, f"Content-Length: {600 << 20}") as connection:
        answer = b""
        while not answer.endswith(b"}}"):
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"over the limit of 513 MB" in answer


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(server):
    border = "x" * 20
    body = (
        f'--{border}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
        f'--{border}\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--{border}--\r\n'
    ).encode()
    form = f"Content-Type: multipart/form-data; boundary={border}"
    with raw_upload(server, form, f"Content-Length: {len(body)}", "Expect: 100-continue") as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@IN_A_FOLDER
def test_an_upload_broken_off_leaves_nothing_and_is_no_error_of_ours(server):
    def answered(status):
        lines = server.http.get(f"http://{urlsplit(server.url).netloc}/metrics").text.splitlines()
        counted = [x for x in lines if x.startswith("luthier_requests_total") and f'status="{status}"' in x]
        return sum(float(line.rpartition(" ")[2]) for line in counted)

    left, failed = answered(499), answered(500)
    blobs = server.platform.settings.data / "blobs"
    before = set(blobs.iterdir())
    form = "Content-Type: multipart/form-data; boundary=abc"
    begun = b'--abc\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b"x" * (4 << 20)
    with raw_upload(server, form, f"Content-Length: {100 << 20}", body=begun):
        deadline = time.monotonic() + PATIENCE_S
        while set(blobs.iterdir()) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert set(blobs.iterdir()) != before
    while set(blobs.iterdir()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(blobs.iterdir()) == before
    while answered(499) == left and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (answered(499), answered(500)) == (left + 1, failed)


def test_expiry(server):
    lasting = upload(server.client)
    batch = upload(server.client, purpose="batch")
    short = upload(server.client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert lasting.expires_at is None
    assert batch.expires_at == batch.created_at + 30 * 24 * 3600
    assert short.expires_at == short.created_at + 3600
    past = FileObject("file-past", server.platform.project.id, "a", "vision", 0, "", "file-past", 1, expires_at=2)
    rows.create(server.platform.database, past)
    files.sweep(server.platform.database, server.platform.blobs)
    with pytest.raises(openai.NotFoundError):
        server.client.files.retrieve("file-past")
    assert server.client.files.retrieve(short.id) == short
    assert rows.to_purge(server.platform.database) == []


def test_lists(tmp_path):
    with serving(tmp_path) as server:
        client = server.client
        empty = server.http.get("/files").json()
        assert empty == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
        made = [upload(client, purpose=("fine-tune", "batch")[n % 2]).id for n in range(7)]
        assert [file.id for file in client.files.list()] == made[::-1]
        assert [file.id for file in client.files.list(order="asc", limit=2)] == made  # pages follow by themselves
        assert [file.id for file in client.files.list(purpose="batch", limit=1)] == made[1::2][::-1]
        page = server.http.get("/files", params={"limit": 3, "after": made[5]}).json()
        assert [file["id"] for file in page["data"]] == made[4:1:-1]
        assert (page["first_id"], page["last_id"], page["has_more"]) == (made[4], made[2], True)
        client.files.delete(made[4])
        page = server.http.get("/files", params={"limit": 1, "after": made[4]}).json()
        assert page["data"][0]["id"] == made[3]  # a deleted file still is a place in the list


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "file-none"}, "after"),
        ({"before": "x"}, "before"),
    ],
)
def test_wrong_queries_are_named(http, query, param):
    answer = http.get("/files", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_result_files_are_sent_in_base64(server):
    content = b"step,train_loss\n1,0.5\n" * 100_000
    with files.receive(server.platform.blobs) as incoming:
        incoming.write(content)
        made = files.create(
            server.platform.database,
            server.platform.project.id,
            incoming,
            filename="step_metrics.csv",
            purpose="fine-tune-results",
            expires_after_s=None,
        )
    assert base64.b64decode(server.client.files.content(made.id).content, validate=True) == content


@IN_A_FOLDER
def test_damaged_bytes_are_not_passed_off_as_the_file(server):
    made = upload(server.client)
    blob = server.platform.settings.data / "blobs" / made.id
    blob.write_bytes(b"y" + JSONL[1:])
    with pytest.raises(openai.APIError):
        server.client.files.content(made.id)


def test_head_sends_headers_alone(http):
    made = http.post("/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", JSONL)}).json()
    answer = http.head(f"/files/{made['id']}/content")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(len(JSONL)), b"")


@pytest.mark.slow
def test_half_a_gigabyte_passes_through(client):
    size = 512 << 20
    line = (LINE + "\n").encode()

    class Endless(io.RawIOBase):
        """512 MB of chats that are in nobody's memory."""

        name = "large.jsonl"

        def __init__(self):
            self.at = 0

        def readinto(self, buffer):
            chunk = (line * (len(buffer) // len(line) + 2))[self.at % len(line) :][: min(len(buffer), total - self.at)]
            buffer[: len(chunk)] = chunk
            self.at += len(chunk)
            return len(chunk)

        def seek(self, offset, whence=0):
            self.at = offset if whence == 0 else total + offset
            return self.at

        def tell(self):
            return self.at

        def seekable(self):
            return True

        def readable(self):
            return True

    total = size // len(line) * len(line)
    started = time.monotonic()
    made = client.files.create(file=("large.jsonl", io.BufferedReader(Endless(), 1 << 20)), purpose="fine-tune")
    print(f"{total / 1e6 / (time.monotonic() - started):.0f} MB/s")
    assert made.bytes == total
    digest = hashlib.sha256()
    with client.files.with_streaming_response.content(made.id) as answer:
        for chunk in answer.iter_bytes():
            digest.update(chunk)
    expected = hashlib.sha256()
    for _ in range(total // len(line) // 1000):
        expected.update(line * 1000)
    expected.update(line * (total // len(line) % 1000))
    assert digest.hexdigest() == expected.hexdigest()
