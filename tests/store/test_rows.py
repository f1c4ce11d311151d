"""Pages that go on after a row which was removed meanwhile."""

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.evals import Eval
from luthier.core.lists import PageQuery
from luthier.store import evals, rows


@pytest.fixture
def made(database, project, monkeypatch):
    """Five evals, of which the oldest were changed last."""
    monkeypatch.setattr(rows, "_ENDS", rows._Ends())  # their ids are those of other tests
    for number in range(5):
        evals.create(database, an_eval(project, number))
    return [f"eval_{number}" for number in range(5)]


def an_eval(project, number):
    given = {"name": "", "data_source_config": {}, "testing_criteria": [], "metadata": {}}
    return Eval(id=f"eval_{number}", project_id=project.id, created_at=1, updated_at=9 - number, **given)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("order_by", ["created_at", "updated_at"])
def test_every_row_is_removed_as_it_is_read(database, project, made, order, order_by):
    read, after, more = [], None, True
    while more:
        page = evals.list_page(database, project.id, PageQuery(2, after, order), order_by=order_by)
        for one in page.items:
            evals.remove(database, project.id, one.id)
            read.append(one.id)
        after, more = read[-1], page.has_more
    assert read == made[:: 1 if (order == "asc") == (order_by == "created_at") else -1]


def test_only_who_had_the_page_goes_on_after_its_end(database, project, made, monkeypatch):
    query = PageQuery(2, made[1], "asc")
    evals.list_page(database, project.id, PageQuery(2, None, "asc"), order_by="created_at")
    evals.remove(database, project.id, made[1])
    for owner, order_by in (("proj_2", "created_at"), (project.id, "updated_at")):
        with pytest.raises(InvalidRequest, match="No object with id 'eval_1' to continue after"):
            evals.list_page(database, owner, query, order_by=order_by)
    assert [one.id for one in evals.list_page(database, project.id, query, order_by="created_at").items] == made[2:4]
    monkeypatch.setattr(rows, "_ENDS", rows._Ends())  # as after a restart
    with pytest.raises(InvalidRequest, match="No object with id"):
        evals.list_page(database, project.id, query, order_by="created_at")
