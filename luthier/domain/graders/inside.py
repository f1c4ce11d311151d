"""What runs in the jail: reads a grader and a case from stdin, calls `grade`, and writes a score or what was wrong.

Started by its text, on Python alone: nothing of Luthier is in there. Imports no `json`, which takes longer than Python
does to start; marshal is safe here, since what it reads comes from the server.
"""

import marshal
import os
import sys

given = marshal.load(sys.stdin.buffer)
answer = os.dup(1)
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
sys.path += given["path"]
try:
    scope: dict[str, object] = {"__name__": "grader"}
    exec(compile(given["source"], "grader", "exec"), scope)
    grade = scope.get("grade")
    if not callable(grade):
        raise TypeError("the source defines no function grade(sample, item)")
    score = 0.0 if given["check"] else grade(given["sample"], given["item"])
    if not isinstance(score, float):
        raise TypeError(f"grade() returned {type(score).__name__}, not a float")
    told = f"score {float(score)!r}"
except BaseException as error:  # noqa: BLE001  # whatever their code raises is their grader's result
    place, at = "", error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == "grader":
            place = f", line {at.tb_lineno}"
        at = at.tb_next
    told = f"error {type(error).__name__}: {error}{place}"
os.write(answer, told.encode(errors="replace")[:4000])
os._exit(0)
