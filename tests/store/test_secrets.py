import pytest
from sqlalchemy import select

from luthier.core.errors import Unavailable
from luthier.core.webhooks import WebhookEndpoint
from luthier.store import webhooks
from luthier.store.schema import webhook_endpoints
from luthier.store.secrets import Secrets


@pytest.fixture
def endpoint(database, project):
    made = WebhookEndpoint(
        "whe_1", project.id, "x", "https://a", ["batch.completed"], "whsec_new", 1, 1, "whsec_old", 9
    )
    webhooks.create(database, made)
    return made


def rows(database):
    with database.read() as connection:
        return connection.execute(select(webhook_endpoints.c.secret, webhook_endpoints.c.old_secret)).one()


def test_secrets_are_encrypted_in_their_rows(database, project, endpoint):
    assert not [value for value in rows(database) if "whsec" in value]
    assert webhooks.get(database, project.id, "whe_1") == endpoint
    assert webhooks.subscribed(database, project.id, "batch.completed") == [endpoint]
    assert webhooks.change(database, project.id, "whe_1", secret="whsec_3", old_secret=None).secret == "whsec_3"
    assert rows(database)[1] is None


def test_keys_rotate_under_a_running_server(database, project, endpoint, tmp_path):
    path = tmp_path / "secret_keys"
    assert path.stat().st_mode & 0o777 == 0o600
    before, first = rows(database), path.read_text()
    other = Secrets(path)  # another process's
    other.add_key()
    assert webhooks.get(database, project.id, "whe_1") == endpoint
    assert webhooks.encrypt_again(database) == 1
    assert not set(rows(database)) & set(before)
    other.add_key()
    assert webhooks.get(database, project.id, "whe_1") == endpoint
    other.add_key()  # again, after a failure: what is stored is still under an older key
    assert webhooks.encrypt_again(database) == 1
    other.drop_old_keys()
    assert first not in path.read_text()
    assert len(path.read_text().split()) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert webhooks.get(database, project.id, "whe_1") == endpoint


def test_a_lost_key_is_said(database, project, endpoint, tmp_path):
    (tmp_path / "secret_keys").unlink()
    with pytest.raises(Unavailable, match="backup"):
        webhooks.get(database, project.id, "whe_1")
