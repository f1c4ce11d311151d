from tests.cli.test_commands import failing, luthier


def test_a_project_and_its_keys(environment, monkeypatch):
    project = luthier("projects", "create", "Team").stdout.strip()
    assert project.startswith("proj_")
    made = luthier("keys", "create", "laptop", "--project", project, "--scope", "read", "--days", 30).stdout
    key_id, export = made.splitlines()
    listed = luthier("keys", "list", "--project", project).stdout
    assert all(word in listed for word in (key_id, "laptop", "read"))
    with monkeypatch.context() as other:
        other.setenv("OPENAI_API_KEY", export.removeprefix("OPENAI_API_KEY="))
        assert luthier("jobs", "list").stdout
        assert "Missing scope: admin" in failing("projects", "list")
    assert luthier("keys", "revoke", key_id, "--project", project).stdout == f"{key_id} revoked\n"
    assert key_id not in luthier("keys", "list", "--project", project).stdout
    luthier("projects", "archive", project)
    assert "archived" in luthier("projects", "list").stdout
    assert "Preset key" in luthier("keys", "list").stdout
