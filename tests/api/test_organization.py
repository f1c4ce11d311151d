import time

import openai
import pytest

from luthier.store.schema import api_keys
from tests.conftest import serving
from tests.contract.objects import BASE, HELLO


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False) as running:
        yield running


@pytest.fixture
def projects(client):
    client.admin_api_key = client.api_key
    return client.admin.organization.projects


@pytest.fixture
def project(projects):
    return projects.create(name="Team")


def new_key(http, project_id, **body):
    made = http.post(f"/organization/projects/{project_id}/api_keys", json={"name": "k", **body})
    assert made.status_code == 200, made.text
    return made.json()


def test_a_project_is_made_renamed_and_archived(projects, project):
    assert (project.name, project.status, project.archived_at) == ("Team", "active", None)
    assert projects.retrieve(project.id) == project
    assert projects.update(project.id, name="Crew").name == "Crew"
    assert [p.id for p in projects.list(limit=1).data] == [project.id]
    archived = projects.archive(project.id)
    assert (archived.status, archived.name) == ("archived", "Crew")
    assert projects.archive(project.id) == archived
    assert project.id not in [p.id for p in projects.list()]
    assert project.id in [p.id for p in projects.list(include_archived=True)]
    with pytest.raises(openai.NotFoundError):
        projects.retrieve("proj_none")


def test_the_default_project_stays(server, projects):
    with pytest.raises(openai.BadRequestError, match="default project"):
        projects.archive(server.platform.project.id)


def test_a_project_has_keys(server, projects, project):
    made = new_key(server.http, project.id, scopes=["read"])
    assert made["value"].startswith("sk-luthier-")
    kept = projects.api_keys.retrieve(made["id"], project_id=project.id)
    assert kept.redacted_value == f"sk-…{made['value'][-4:]}"
    assert kept.last_used_at is None
    assert kept.model_extra == {"scopes": ["read"]}
    assert server.client.with_options(api_key=made["value"]).files.list().data == []
    assert abs(projects.api_keys.retrieve(made["id"], project_id=project.id).last_used_at - time.time()) < 60
    assert [key.id for key in projects.api_keys.list(project.id)] == [made["id"]]
    assert projects.api_keys.list(project.id, owner_project_access="inactive").data == []
    for other in (server.platform.project.id, "proj_none"):
        with pytest.raises(openai.NotFoundError):
            projects.api_keys.retrieve(made["id"], project_id=other)
    assert projects.api_keys.delete(made["id"], project_id=project.id).deleted
    assert projects.api_keys.list(project.id).data == []
    with pytest.raises(openai.AuthenticationError):
        server.client.with_options(api_key=made["value"]).files.list()


def test_each_scope_opens_its_own_doors(server, project):
    doors = {
        "read": lambda client: client.files.list(),
        "tune": lambda client: client.files.create(file=b"x", purpose="vision"),
        "infer": lambda client: client.chat.completions.create(model=BASE, messages=HELLO),
        "admin": lambda client: client.get("/organization/projects", cast_to=object),
    }
    for scope in doors:
        client = server.client.with_options(api_key=new_key(server.http, project.id, scopes=[scope])["value"])
        for wanted, opens in doors.items():
            if wanted == scope:
                opens(client)
            else:
                with pytest.raises(openai.PermissionDeniedError, match=f"Missing scope: {wanted}"):
                    opens(client)


def test_a_key_expires(server, project):
    made = new_key(server.http, project.id, expires_in_seconds=3600)
    assert 3590 <= made["expires_at"] - time.time() <= 3600
    client = server.client.with_options(api_key=made["value"])
    client.files.list()
    with server.platform.database.transaction() as connection:
        connection.execute(api_keys.update().where(api_keys.c.id == made["id"]).values(expires_at=int(time.time())))
    with pytest.raises(openai.AuthenticationError):
        client.files.list()


def test_the_keys_of_an_archived_project_open_nothing(server, projects, project):
    made = new_key(server.http, project.id)
    projects.archive(project.id)
    with pytest.raises(openai.AuthenticationError, match="archived"):
        server.client.with_options(api_key=made["value"]).files.list()
    assert server.http.post(f"/organization/projects/{project.id}/api_keys", json={"name": "k"}).status_code == 400


def test_admin_keys(server, client, projects):
    admin = client.admin.organization.admin_api_keys
    made = admin.create(name="root", expires_in_seconds=60)
    assert made.expires_at == made.created_at + 60
    assert made.id in [key.id for key in admin.list()]
    assert admin.list(order="desc", limit=1).data[0].id == made.id
    assert admin.retrieve(made.id).redacted_value == f"sk-…{made.value[-4:]}"
    only_admin = server.client.with_options(api_key=made.value)
    with pytest.raises(openai.PermissionDeniedError, match="read"):
        only_admin.files.list()
    plain = new_key(server.http, server.platform.project.id)
    for gone in (plain["id"], admin.delete(made.id).id):
        with pytest.raises(openai.NotFoundError):
            admin.retrieve(gone)


def test_what_administrators_do_is_written_down(server, client, projects):
    began = int(time.time())
    project = projects.create(name="Noted")
    key = new_key(server.http, project.id, scopes=["read"])
    projects.update(project.id, name="Renamed")
    projects.api_keys.delete(key["id"], project_id=project.id)
    projects.archive(project.id)
    logs = client.admin.organization.audit_logs
    lines = list(logs.list(project_ids=[project.id], effective_at={"gte": began}, limit=2))
    kinds = ["project.created", "api_key.created", "project.updated", "api_key.deleted", "project.archived"]
    assert [line.type for line in lines] == kinds[::-1]
    assert lines[3].api_key_created.data.scopes == ["read"]
    assert lines[3].api_key_created.id == key["id"]
    assert {line.actor.api_key.id for line in lines} == {actor(server)}
    assert list(logs.list(project_ids=[project.id], event_types=["api_key.created"])) == [lines[3]]
    assert {line.type for line in logs.list(resource_ids=[key["id"]])} == {"api_key.created", "api_key.deleted"}
    assert list(logs.list(project_ids=[project.id], effective_at={"gt": began + 3600})) == []
    assert list(logs.list(actor_ids=["key_none"])) == []
    refused = server.http.get("/organization/audit_logs", params={"actor_emails[]": "a@b"})
    assert refused.json()["error"]["param"] == "actor_emails[]"


def actor(server):
    """The id of the key that the tests' client holds."""
    listed = server.http.get(f"/organization/projects/{server.platform.project.id}/api_keys?limit=100").json()["data"]
    return next(key["id"] for key in listed if key["name"] == "Preset key")
