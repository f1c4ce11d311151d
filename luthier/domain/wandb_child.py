"""The child process that tells Weights & Biases of a training: `python -m luthier.domain.wandb_child`.

It reads one line of JSON (`Told`) from its input and follows the events in the run folder. When its input ends, it
passes on what is still there, and ends. A training that went on later goes on in the same run of Weights & Biases.
"""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path
from typing import Final

import wandb

from luthier.core.run import RunFolder
from luthier.domain.reporting import Told

POLL_S: Final = 1.0


def main() -> None:
    """Follow a run until the input ends."""
    told = Told(**json.loads(sys.stdin.readline()))
    try:
        run = wandb.init(
            dir=told.run,
            id=told.id,
            resume="allow",
            project=told.project,
            name=told.name,
            entity=told.entity,
            tags=told.tags,
            config=told.config,
            settings=wandb.Settings(console="off", disable_git=True, save_code=False),
        )
    except wandb.Error as error:
        sys.exit(f"{error}")
    follow(RunFolder(Path(told.run)), run)


def follow(folder: RunFolder, run: wandb.Run) -> None:
    """Log the metrics of each step as they come. Steps that Weights & Biases has already it passes over itself."""
    offset, waited_for, failed = 0, True, False
    while waited_for:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
        waited_for = not readable
        if folder.events.exists() and folder.events.stat().st_size < offset:
            offset = 0  # a resumed trainer cut its file back to its checkpoint
        for event, after in folder.read_events(offset):
            offset, failed = after, event.kind == "failed"
            if event.kind == "metrics":
                run.log({name: value for name, value in event.data.items() if name != "step"}, step=event.step)
    run.finish(exit_code=int(failed))


if __name__ == "__main__":
    main()
