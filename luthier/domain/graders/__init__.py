"""Graders: each kind a file, known by registering. `of` makes one of its document, `grade` grades a case."""

from luthier.domain.graders import model, multi, python_code, string_check, text_similarity
from luthier.domain.graders.base import Case, Errors, Grade, Grader, InvalidVariable, grade, of

__all__ = ["Case", "Errors", "Grade", "Grader", "InvalidVariable", "grade", "of"]
_KINDS = (model, multi, python_code, string_check, text_similarity)
