import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import openai
import pytest

from luthier.domain import uploads
from luthier.store import uploads as rows
from tests.api.test_files import JSONL
from tests.databases import blobs_of


def begin(client, size, purpose="vision", **more):
    mime = "text/jsonl" if purpose == "fine-tune" else "image/png"
    return client.uploads.create(bytes=size, filename="a.bin", mime_type=mime, purpose=purpose, **more)


def test_parts_in_parallel_make_the_file(server):
    client = server.client
    parts = [os.urandom(300_000 + n) for n in range(8)]
    content = b"".join(parts)
    upload = begin(client, len(content))
    assert (upload.status, upload.file, upload.expires_at) == ("pending", None, upload.created_at + 3600)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda part: client.uploads.parts.create(upload.id, data=part), parts))
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in made], md5=md5)
    assert done.status == "completed"
    assert (done.file.bytes, done.file.filename, done.file.purpose) == (len(content), "a.bin", "vision")
    assert client.files.content(done.file.id).content == content
    left = blobs_of(server)
    assert not left & {part.id for part in made}
    assert done.file.id in left


def test_the_official_helper_sends_a_file(client, tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_bytes(JSONL)
    done = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=100)
    assert client.files.content(done.file.id).content == JSONL


def test_parts_join_in_the_order_asked(client):
    upload = begin(client, 6)
    first = client.uploads.parts.create(upload.id, data=b"abc")
    second = client.uploads.parts.create(upload.id, data=b"def")
    done = client.uploads.complete(upload.id, part_ids=[second.id, first.id])
    assert client.files.content(done.file.id).content == b"defabc"


def test_what_cannot_be_completed(client):
    upload = begin(client, 6)
    part = client.uploads.parts.create(upload.id, data=b"abc")
    other = client.uploads.parts.create(begin(client, 3).id, data=b"xyz")
    for ids, words in (
        ([part.id], "3 bytes"),
        ([part.id, part.id], "twice"),
        ([part.id, other.id], "no part"),
        ([part.id, "part_none"], "no part"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            client.uploads.complete(upload.id, part_ids=ids)
    rest = client.uploads.parts.create(upload.id, data=b"def")
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=[part.id, rest.id], md5="0" * 32)
    assert client.uploads.complete(upload.id, part_ids=[part.id, rest.id]).status == "completed"
    with pytest.raises(openai.BadRequestError, match="completed"):
        client.uploads.parts.create(upload.id, data=b"more")
    with pytest.raises(openai.BadRequestError, match="completed"):
        client.uploads.cancel(upload.id)


def test_the_whole_must_be_jsonl_where_its_purpose_says_so(client):
    upload = begin(client, 3, purpose="fine-tune")
    part = client.uploads.parts.create(upload.id, data=b"abc")
    with pytest.raises(openai.BadRequestError, match="Expected file to have JSONL format") as refused:
        client.uploads.complete(upload.id, part_ids=[part.id])
    assert refused.value.param == "part_ids"


def test_a_part_over_the_limit_is_to_be_smaller(client, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_PART_BYTES", 2)
    upload = begin(client, 3)
    with pytest.raises(openai.APIStatusError, match="The part is larger than the limit of 2 bytes; .* smaller parts"):
        client.uploads.parts.create(upload.id, data=b"abc")


def test_cancel(server):
    client = server.client
    upload = begin(client, 3)
    part = client.uploads.parts.create(upload.id, data=b"abc")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert part.id not in blobs_of(server)
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.uploads.complete(upload.id, part_ids=[part.id])


def test_expiry(server):
    platform = server.platform
    upload = begin(server.client, 3)
    old = replace(rows.get(platform.database, platform.project.id, upload.id), id="upload_old", expires_at=1)
    rows.create(platform.database, old)
    with pytest.raises(openai.BadRequestError, match="expired"):
        server.client.uploads.parts.create("upload_old", data=b"abc")
    rows.create(platform.database, replace(old, id="upload_older"))
    uploads.sweep(platform.database, platform.blobs)
    assert rows.get(platform.database, platform.project.id, "upload_older").status == "expired"
    assert rows.get(platform.database, platform.project.id, upload.id).status == "pending"


def test_file_expiry_counts_from_completion(client):
    upload = begin(client, 3, expires_after={"anchor": "created_at", "seconds": 7200})
    part = client.uploads.parts.create(upload.id, data=b"abc")
    file = client.uploads.complete(upload.id, part_ids=[part.id]).file
    assert file.expires_at == file.created_at + 7200


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"bytes": 9 << 30}, "integer_above_max_value", "bytes"),
        ({"bytes": 0}, "integer_below_min_value", "bytes"),
        ({"bytes": "3"}, "invalid_type", "bytes"),
        ({"filename": None}, "invalid_type", "filename"),
        ({"purpose": "batch_output"}, "invalid_value", "purpose"),
        ({"more": 1}, "unknown_parameter", "more"),
    ],
)
def test_wrong_fields_are_named(http, change, code, param):
    body = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "vision", **change}
    error = http.post("/uploads", json=body).json()["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_bodies_are_json_whatever_curl_calls_them(http):
    body = json.dumps({"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "vision"})
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        assert http.post("/uploads", content=body, headers={"content-type": kind}).status_code == 200


def test_unknown_uploads_and_bodies(http):
    assert http.post("/uploads/upload_none/cancel").status_code == 404
    assert http.post("/uploads/upload_none/complete", json={"part_ids": ["part_x"]}).status_code == 404
    assert http.post("/uploads/upload_none/parts", files={"data": b"abc"}).status_code == 404
    empty = http.post("/uploads/upload_none/complete", content=b"")
    assert (empty.status_code, empty.json()["error"]["code"]) == (400, "missing_required_parameter")
    broken = http.post("/uploads/upload_none/complete", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, "could not parse" in broken.json()["error"]["message"]) == (400, True)
    text = http.post("/uploads/upload_none/complete", content=json.dumps("x"))
    assert text.status_code == 400
