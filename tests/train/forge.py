"""Trainers as processes that can be killed, without three seconds of imports for each: forks of one that has them.

Run as a module it reads a JSON list of arguments a line, forks a trainer for each and prints its pid.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from luthier.core.run import RunFolder


class Forge:
    """The process that forks; `start` returns a trainer's pid."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.train.forge"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=root
        )

    def start(self, run: RunFolder, fence: int = 0) -> int:
        """Start a trainer on a run."""
        return int(self._ask({"start": [str(run.path), "--fence", str(fence)]}))

    def wait(self, pid: int) -> int:
        """A trainer's exit code once it ends; minus the signal that ended it."""
        return int(self._ask({"wait": pid}))

    def run(self, run: RunFolder, fence: int = 0) -> int:
        """Start a trainer and wait for its end."""
        return self.wait(self.start(run, fence))

    def close(self) -> None:
        """End the forking process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _ask(self, request) -> str:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the process that forks trainers has ended; its last words are above"
        return answer


def _serve() -> None:
    from luthier.train import __main__ as trainer
    from luthier.train import loop

    loop.STATE_EVERY_S = 0.02
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            code = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
            print(code, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.argv = ["luthier.train", *request["start"]]
            log = os.open(Path(request["start"][0]) / "trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os._exit(trainer.main())
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
