import openai
import pytest
import structlog

from luthier.api import middleware
from tests.conftest import serving


def test_health_needs_no_key(http):
    root = http.base_url.copy_with(path="/")
    assert http.get(root.join("/healthz"), headers={"authorization": ""}).json() == {"status": "ok"}
    assert http.get(root.join("/readyz"), headers={"authorization": ""}).json() == {"status": "ready"}


def test_unknown_url(http):
    answer = http.get("/nothing")
    assert answer.status_code == 404
    assert answer.json() == {
        "error": {
            "message": "Invalid URL (GET /v1/nothing)",
            "type": "invalid_request_error",
            "param": None,
            "code": "unknown_url",
        }
    }


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc", "Bearer sk-wrong-key-of-some-length"])
def test_a_wrong_key_is_401(http, header):
    answer = http.get("/models", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_key_is_never_repeated_in_whole(http):
    answer = http.get("/models", headers={"authorization": "Bearer sk-secret-secret-secret"})
    assert "secret-secret" not in answer.text


def test_organization_and_project_must_match(server):
    for header, code in (("OpenAI-Organization", "mismatched_organization"), ("OpenAI-Project", "mismatched_project")):
        answer = server.http.get("/nothing", headers={header: "other"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    own = {"OpenAI-Organization": "acme", "OpenAI-Project": server.platform.project.id}
    assert server.http.get("/nothing", headers=own).status_code == 404


def test_headers_of_every_answer(http):
    first, second = http.get("/nothing"), http.get("/nothing")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["openai-processing-ms"]) >= 0
    assert first.headers["openai-version"] == "2020-10-01"
    assert first.headers["openai-organization"] == "acme"


def test_the_document_names_forms_errors_and_no_422(server):
    document = server.app.openapi()
    form = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file", "purpose"]
    assert set(form["properties"]) == {"file", "purpose", "expires_after"}
    operations = [o for path, item in document["paths"].items() if path.startswith("/v1") for o in item.values()]
    assert all("default" in operation["responses"] for operation in operations)
    assert not any("422" in operation["responses"] for operation in operations)
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)


def test_a_wrong_method_is_405(http):
    answer = http.patch("/files")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert http.patch("/files/file-1").headers["allow"] == "GET, DELETE"
    assert answer.json()["error"]["message"] == "Invalid method for URL (PATCH /v1/files)"


def test_a_body_that_is_no_object(http):
    error = http.post("/chat/completions", json=[1]).json()["error"]
    assert error["message"] == "Invalid type for the request's body: expected an object, but got an array instead."
    assert error["param"] is None


def test_a_slash_too_many_is_another_url(http):
    assert http.get("/files/").status_code == 404


def test_a_json_body_has_a_limit(http):
    body = b'{"filename": "' + b"x" * (65 << 20) + b'"}'
    answer = http.post("/uploads", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_the_rate_is_limited_and_told(tmp_path):
    with serving(tmp_path, requests_per_minute=3) as server:
        told = [server.http.get("/models") for _ in range(4)]
        assert [answer.status_code for answer in told] == [200, 200, 200, 429]
        assert [answer.headers.get("x-ratelimit-remaining-requests") for answer in told[:3]] == ["2", "1", "0"]
        assert told[0].headers["x-ratelimit-limit-requests"] == "3"
        assert float(told[0].headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 20
        refused = told[3]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 0 < float(refused.headers["retry-after"]) <= 20
        assert 0 < float(refused.headers["retry-after-ms"]) <= 20_000
        with pytest.raises(openai.RateLimitError):
            server.client.models.list()


def test_an_unforeseen_error_is_a_500_with_its_request_id(server, monkeypatch):
    def broken(*_):
        raise KeyError("boom")

    monkeypatch.setattr(middleware, "_caller", broken)
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = server.http.get("/models")
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["type"] == "server_error"
    assert answer.headers["x-request-id"] in error["message"]
    assert "boom" not in answer.text
    assert logs[0]["request_id"] == answer.headers["x-request-id"]
    assert logs[0]["exc_info"]


def test_the_first_run_makes_a_key_and_later_ones_keep_it(tmp_path):
    with serving(tmp_path, api_key=None) as first:
        key = first.platform.first_key
        assert key.startswith("sk-luthier-")
        assert len(key) >= 43
        kept = tmp_path / "api_key"
        assert kept.read_text() == key
        assert kept.stat().st_mode & 0o777 == 0o600
    if first.platform.database.sqlite:
        assert key.encode() not in (tmp_path / "luthier.db").read_bytes()
    with serving(tmp_path, api_key=None) as second:
        assert second.platform.first_key is None
        assert second.http.get("/nothing", headers={"authorization": f"Bearer {key}"}).status_code == 404


def test_cors_is_a_setting(tmp_path, http):
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in http.options("/files", headers=preflight).headers
    with serving(tmp_path, cors_origins=("https://app.example",)) as server:
        answer = server.http.options("/files", headers={**preflight, "authorization": ""})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_the_official_client_gets_its_error_classes(client):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()
