"""Whether a base can be trained at all, found out when it is added: `python -m luthier.train.trial FOLDER`.

Loads the base as a training would, and leaves in `probe.json` what it thinks of a few chats whose texts are cut into
tokens in awkward places; the engine is held against them. Exits with the reason where the base cannot be trained.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Final

from luthier.core.errors import LuthierError
from luthier.core.json import JsonObject
from luthier.core.run import AdapterShape, Hyperparameters, RunSpec
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import Chat
from luthier.data.rows import Rows
from luthier.train.policy import Policy, load_policy
from luthier.train.probe import write_probe

CHATS: Final = (
    ("What is the capital of Italy?", "Rome."),
    ("Don't  you'll   see?\n\n\tdef f(x):\n        return x**2  # {'a': [1, 2.50, 12345]}\r\n", "OK!\n"),
    ("naïve café, straße, Ångström — “quoted”… ½ €5", "Ça va ✓"),
    ("日本語と한국어、русский, العربية 👍🏽👨‍👩‍👧", "はい 😀"),
)


def trial(base: BaseFolder) -> None:
    """Errors: `LuthierError` for a base that cannot be trained; others for what transformers cannot load."""
    write_trial(base, trial_policy(base, AdapterShape.of(base.read_facts().architecture)), base.probe)


def trial_policy(base: BaseFolder, shape: AdapterShape) -> Policy:
    """The base as a training would load it, in float32, with a fresh adapter."""
    facts = base.read_facts()
    nothing = Hyperparameters(n_epochs=1, batch_size=1, learning_rate_multiplier=1.0, learning_rate=0.0)
    spec = RunSpec(
        job_id="trial",
        base_name=facts.name,
        base_sha256=facts.sha256,
        base_dir=str(base.path),
        method="supervised",
        hyperparameters=nothing,
        seed=0,
        training_sha256="",
        validation_sha256=None,
        context_tokens=facts.context_tokens,
        adapter=shape,
        precision="float32",
    )
    return load_policy(base, spec)


def write_trial(base: BaseFolder, policy: Policy, probe: Path) -> None:
    """What a policy thinks of the awkward chats."""
    rows = Rows(base, base.read_facts().context_tokens, date.today())
    examples = [(number, Chat(_turns(*texts), (False, True))) for number, texts in enumerate(CHATS, 1)]
    write_probe(probe, policy, examples, rows, base.template.read_text())


def _turns(question: str, answer: str) -> tuple[JsonObject, JsonObject]:
    return {"role": "user", "content": question}, {"role": "assistant", "content": answer}


def main() -> int:
    """The command."""
    try:
        trial(BaseFolder(Path(sys.argv[1])))
    except (LuthierError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
