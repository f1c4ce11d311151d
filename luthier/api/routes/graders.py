"""`/v1/fine_tuning/alpha/graders`: try a grader out."""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, Request

from luthier.api.auth import Inferrer, ThePlatform
from luthier.api.inside import asking
from luthier.api.json_route import JsonRoute
from luthier.api.wire.graders import GradeAnswer, RunGrader, ValidatedGrader, ValidateGrader
from luthier.domain import graders
from luthier.domain.eval_samples import names_of_text

router = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["graders"], route_class=JsonRoute)


@router.post("/run", operation_id="runGrader")
async def run(request: Request, platform: ThePlatform, caller: Inferrer, body: RunGrader) -> GradeAnswer:
    """Grade one case."""
    grader = graders.of(body.grader.to_document())
    await grader.check()
    ask = partial(asking(request.app), caller)
    case = graders.Case(body.item, names_of_text(body.model_sample), ask, platform.settings.default_base)
    began = time.perf_counter()
    grade = await graders.grade(grader, case)
    return GradeAnswer.of(grader, grade, time.perf_counter() - began)


@router.post("/validate", operation_id="validateGrader")
async def validate(_caller: Inferrer, body: ValidateGrader) -> ValidatedGrader:
    """See whether a grader can grade."""
    document = body.grader.to_document()
    await graders.of(document).check()
    return ValidatedGrader(grader=document)
