from hashlib import sha256

import openai
import pytest

from luthier.core.models import TunedModel
from luthier.core.projects import ApiKey, Project
from luthier.domain import models
from luthier.store import keys
from luthier.store import models as rows
from luthier.store.schema import projects
from tests.api.test_files import upload
from tests.conftest import serving

BASE = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), aliases={"gpt-4o-mini": BASE}, background=False) as running:
        yield running


def tuned(server, name, step=None):
    """A tuned model, as a job's end would leave it; the job is cancelled, so that it is final."""
    platform, client = server.platform, server.client
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id)
    client.fine_tuning.jobs.cancel(job.id)
    adapter = platform.settings.runs / job.id / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    model = TunedModel(f"model_{name}", name, platform.project.id, job.id, BASE, "0" * 64, f"{job.id}/adapter", 7, step)
    with platform.database.transaction() as connection:
        rows.add(connection, model)
    return adapter


def test_bases_and_aliases_are_listed(client):
    names = [model.id for model in client.models.list()]
    assert names[:2] == [BASE, "gpt-4o-mini"]
    assert client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


def test_tuned_models_are_listed_and_deleted_with_their_adapter(server):
    client, name = server.client, f"ft:{BASE}:acme::abc"
    adapter = tuned(server, name)
    assert client.models.retrieve(name).owned_by == "acme"
    assert name in [model.id for model in client.models.list()]
    assert models.resolve(server.platform, server.platform.project.id, name).base == BASE
    deleted = client.models.delete(name)
    assert (deleted.id, deleted.deleted) == (name, True)
    assert not adapter.exists()
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(name)
    with pytest.raises(openai.NotFoundError):
        client.models.delete(name)


def test_bases_and_aliases_cannot_be_deleted(client):
    for name in (BASE, "gpt-4o-mini"):
        with pytest.raises(openai.PermissionDeniedError):
            client.models.delete(name)


def test_a_model_of_a_running_job_stays(server):
    client, name = server.client, f"ft:{BASE}:acme::run:ckpt-step-1"
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id)
    model = TunedModel("model_run", name, server.platform.project.id, job.id, BASE, "0" * 64, "x", 7, 1)
    with server.platform.database.transaction() as connection:
        rows.add(connection, model)
    with pytest.raises(openai.BadRequestError, match="still works with"):
        client.models.delete(name)


def test_permissions_let_another_project_call_a_checkpoint(server):
    platform, client = server.platform, server.client
    name = f"ft:{BASE}:acme::shared:ckpt-step-5"
    tuned(server, name, step=5)
    other = Project("proj_other", platform.project.organization_id, "acme", "Other", 1)
    key = ApiKey("key_other", other.id, "k", "0000", frozenset({"read", "tune", "infer"}), 1)
    add_project(platform.database, other, key, "sk-other-key-0123456789")
    theirs = client.with_options(api_key="sk-other-key-0123456789")
    permissions = client.fine_tuning.checkpoints.permissions

    with pytest.raises(openai.NotFoundError):
        theirs.models.retrieve(name)
    assert list(permissions.list(name)) == []
    granted = list(permissions.create(name, project_ids=[other.id]))
    assert [grant.project_id for grant in granted] == [other.id]
    assert list(permissions.create(name, project_ids=[other.id])) == granted
    assert theirs.models.retrieve(name).id == name
    assert name not in [model.id for model in theirs.models.list()]
    with pytest.raises(openai.NotFoundError):
        theirs.models.delete(name)

    second = list(permissions.create(name, project_ids=[platform.project.id]))
    ids = [granted[0].id, second[0].id]
    assert [grant.id for grant in permissions.list(name, limit=1)] == ids[::-1]
    assert [grant.id for grant in permissions.list(name, order="ascending")] == ids
    assert [grant.id for grant in permissions.list(name, project_id=other.id)] == ids[:1]

    deleted = permissions.delete(granted[0].id, fine_tuned_model_checkpoint=name)
    assert (deleted.id, deleted.deleted, deleted.object) == (granted[0].id, True, "checkpoint.permission")
    with pytest.raises(openai.NotFoundError):
        permissions.delete(granted[0].id, fine_tuned_model_checkpoint=name)
    with pytest.raises(openai.NotFoundError):
        theirs.models.retrieve(name)


def test_an_admin_key_shares_what_any_project_of_its_organisation_has(server):
    platform, client = server.platform, server.client.with_options(admin_api_key=server.client.api_key)
    made = client.admin.organization.projects.create(name="Another")
    name = f"ft:{BASE}:acme::theirs"
    model = TunedModel("model_theirs", name, made.id, None, BASE, "0" * 64, "x", 7, None)
    with platform.database.transaction() as connection:
        rows.add(connection, model)
    key = client.admin.organization.admin_api_keys.create(name="boss").value
    boss = client.with_options(api_key=key).fine_tuning.checkpoints.permissions
    [granted] = boss.create(name, project_ids=[platform.project.id])
    assert [grant.id for grant in boss.list(name)] == [granted.id]
    assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError):  # a project's own key opens what is the project's
        client.fine_tuning.checkpoints.permissions.delete(granted.id, fine_tuned_model_checkpoint=name)
    assert boss.delete(granted.id, fine_tuned_model_checkpoint=name).deleted


def test_permissions_need_the_admin_scope_and_real_projects(server):
    platform = server.platform
    name = f"ft:{BASE}:acme::own"
    tuned(server, name)
    with pytest.raises(openai.BadRequestError, match="No such project"):
        list(server.client.fine_tuning.checkpoints.permissions.create(name, project_ids=["proj_none"]))
    with pytest.raises(openai.NotFoundError):
        list(server.client.fine_tuning.checkpoints.permissions.create("ft:none:a::b", project_ids=["proj_none"]))
    key = ApiKey("key_weak", platform.project.id, "k", "0000", frozenset({"read"}), 1)
    add_project(platform.database, None, key, "sk-weak-key-0123456789")
    weak = server.client.with_options(api_key="sk-weak-key-0123456789")
    with pytest.raises(openai.PermissionDeniedError, match="admin"):
        list(weak.fine_tuning.checkpoints.permissions.list(name))
    with pytest.raises(openai.PermissionDeniedError, match="tune"):
        weak.files.create(file=b"x", purpose="vision")
    assert weak.models.retrieve(name).id == name


def add_project(database, project, key, text):
    if project is not None:
        with database.transaction() as connection:
            row = {name: getattr(project, name) for name in ("id", "organization_id", "name", "created_at")}
            connection.execute(projects.insert().values(row))
    keys.create(database, key, sha256(text.encode()).hexdigest())
