"""The trial behind a job's verdict: which rows, which contenders, what they answered. Tells nobody."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from anyio.from_thread import BlockingPortal

from luthier.core.errors import InvalidRequest
from luthier.core.jobs import Job
from luthier.core.json import JsonObject
from luthier.core.lists import PageQuery
from luthier.core.patience import PATIENT
from luthier.core.prices import price_of
from luthier.core.run import RunFolder
from luthier.core.verdict import measures
from luthier.core.verdict.contenders import Contender, Reply, Row, TooLong, as_many_as_fit, row_of
from luthier.core.verdict.document import Document, document
from luthier.core.verdict.general import GENERAL, MENTIONS
from luthier.core.verdict.judging import FEWEST_ROWS, CurvePoint, Forgetting, Trial, Verdict, judge
from luthier.core.verdict.trial import hold_trial, measure
from luthier.data.chats import Chat, DataFile, Example, Preference, read_examples
from luthier.data.receipt import read_receipt
from luthier.domain import inference
from luthier.domain.platform import Platform
from luthier.domain.verdict_curve import parts_of, tune_on_part, worth_a_curve
from luthier.domain.verdict_teacher import TeacherFailed, ask_teacher
from luthier.engines.base import Adapter
from luthier.store import checkpoints

MOST_ROWS: Final = 100
MOST_EXAMPLES_READ: Final = 100
BUDGET_S: Final = 60.0  # for the rows; the first ten are asked whatever they take
GENERAL_BUDGET_S: Final = 20.0
PROMPT_KEY: Final = "verdict_prompt"  # of a job's metadata: a system message to try with the base

Holding = Callable[[], None]
"""Called before each question. Errors: `Stopped`."""


class Stopped(Exception):
    """The server is to end; the verdict is found later."""


def find(job: Job, platform: Platform, portal: BlockingPortal, hold: Holding) -> Document:
    """The verdict on a job that has succeeded. Errors: those of its engine."""
    run = RunFolder(platform.settings.runs / job.id)
    ask = EngineAsk(job, platform, portal, run.verdict, hold)
    rows, leaked, unread = _validation_rows(job, run)
    if len(rows) >= FEWEST_ROWS:
        rows, too_long = _that_fit(ask, job.model, rows)
        unread += too_long
    examples = _training_rows(job, run)
    by = measures.measure_for(rows, examples) if rows else measures.SIMILAR
    tuned_model = str(job.fine_tuned_model)
    trial = Trial(
        measure=by,
        rows=tuple(rows),
        contenders=(),
        guesses=(),
        training_examples=sum(not line.dropped for line in read_receipt(run.receipt)),
        training_cost=(job.trained_tokens or 0) * price_of(tuned_model, platform.settings.prices).training / 1e6,
        leaked_rows=leaked,
        unread_rows=unread,
        losses=_losses(run),
    )
    if len(rows) < FEWEST_ROWS:
        return document(trial, judge(trial))
    contenders = _contenders(job, platform, ask, rows, examples)
    failed = ""
    count = len(rows)
    try:
        replies = _replies(contenders, rows, ask)
    except TeacherFailed as error:  # it comes last; what the others said is known by now
        failed = f"{contenders.pop().model}: {error}"
        replies = _replies(contenders, rows, ask)
    answered = rows[: len(replies[0])]
    prices = platform.settings.prices
    trial = replace(
        trial,
        rows=tuple(answered),
        contenders=tuple(
            measure(contender, answered, said, by, price_of(contender.model, prices))
            for contender, said in zip(contenders, replies, strict=True)
        ),
        guesses=tuple(measures.guesses(by, answered, examples)),
        unread_rows=unread + count - len(rows),
        forgetting=_forgetting(contenders, ask),
        teacher_failed=failed,
    )
    verdict = judge(trial)
    if wants_curve(verdict) and worth_a_curve(run):
        trial = replace(trial, curve=_curve(trial, platform, run, ask, hold))
        verdict = judge(trial)
    return document(trial, verdict)


def wants_curve(verdict: Verdict) -> bool:
    """Whether it would say more with models that were tuned on fewer examples."""
    return verdict.kind in {"more data needed", "not measurable"}


class EngineAsk:
    """Asks the engine as one who can wait, unmetered; keeps each answer in a file, and asks nothing twice."""

    def __init__(self, job: Job, platform: Platform, portal: BlockingPortal, folder: Path, hold: Holding) -> None:
        self._job = job
        self._platform = platform
        self._portal = portal
        self._hold = hold
        self._file = folder / "answers.jsonl"
        self.parts: dict[str, Adapter] = {}
        folder.mkdir(exist_ok=True, mode=0o700)
        self._known = dict(self._read())

    def __call__(self, contender: Contender, row: Row, *, limit_tokens: int) -> Reply:
        self._hold()
        body: JsonObject = {
            "messages": list(contender.messages(row)),
            "temperature": 0,
            "max_completion_tokens": limit_tokens,
        }
        if row.tools:
            body["tools"] = list(row.tools)
        where = [self._platform.settings.teacher_url] if contender.role == "teacher" else []
        key = json.dumps([*where, contender.model, body], sort_keys=True)
        if key not in self._known:
            try:
                self._known[key] = self._ask(contender, body)
            except TooLong as error:
                error.row = row
                raise
            with self._file.open("a") as file:
                file.write(json.dumps({"key": key, "reply": asdict(self._known[key])}) + "\n")
        return self._known[key]

    def _ask(self, contender: Contender, body: JsonObject) -> Reply:
        started = time.perf_counter()
        answering = self._teach if contender.role == "teacher" else self._answer
        try:
            answer: Any = self._portal.call(answering, contender.model, body)
        except InvalidRequest as error:
            if error.code == "context_length_exceeded":
                raise TooLong from error
            raise
        choice, usage = answer["choices"][0], answer["usage"]
        return Reply(
            text=choice["message"]["content"] or "",
            latency_ms=(time.perf_counter() - started) * 1000,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            cut=choice["finish_reason"] == "length",
        )

    async def _answer(self, model: str, body: JsonObject) -> JsonObject:
        PATIENT.set(True)
        name = self._job.model if model in self.parts else model
        who = await inference.target(self._platform, self._job.project_id, name)
        return await who.engine.answer("chat/completions", body, self.parts.get(model, who.adapter))

    async def _teach(self, model: str, body: JsonObject) -> JsonObject:
        return await ask_teacher(self._platform.settings, model, body, self._answer)

    def _read(self) -> Iterator[tuple[str, Reply]]:
        """What was answered before; a line that a crash cut short is asked again."""
        if not self._file.exists():
            return
        for line in self._file.read_text().splitlines():
            try:
                kept = json.loads(line)
            except ValueError:
                continue
            yield kept["key"], Reply(**kept["reply"])


def _validation_rows(job: Job, run: RunFolder) -> tuple[list[Row], int, int]:
    """Rows to ask, drawn by the job's seed; how many were left out as leaks, and as no replies in words."""
    leaks = {line.line for line in read_receipt(run.validation_receipt) if line.leak_of is not None}
    drawn: list[Row] = []
    leaked = unread = seen = 0
    chance = random.Random(job.seed)
    for number, example in read_examples(DataFile(run.validation, "validation"), job.method):
        row = _row(example)
        if number in leaks:
            leaked += 1
        elif row is None:
            unread += 1
        else:
            seen += 1
            _draw(drawn, row, seen, MOST_ROWS, chance)
    return drawn, leaked, unread


def _training_rows(job: Job, run: RunFolder) -> list[Row]:
    drawn: list[Row] = []
    seen, chance = 0, random.Random(job.seed)
    for _, example in read_examples(DataFile(run.training), job.method):
        if (row := _row(example)) is not None:
            seen += 1
            _draw(drawn, row, seen, MOST_EXAMPLES_READ, chance)
    return drawn


def _draw(drawn: list[Row], row: Row, seen: int, most: int, chance: random.Random) -> None:
    """Keep `most` of all rows, each with the same chance (reservoir sampling)."""
    if len(drawn) < most:
        drawn.append(row)
    elif (place := chance.randrange(seen)) < most:
        drawn[place] = row


def _row(example: Example) -> Row | None:
    match example:
        case Chat(messages, _, tools):
            return row_of(messages, tools)
        case Preference(preferred, _):
            return row_of(preferred.messages, preferred.tools)
        case _:  # a prompt and its completion are no chat, and those who learnt them are asked otherwise
            return None


def _replies(contenders: list[Contender], rows: list[Row], ask: EngineAsk) -> list[list[Reply]]:
    """What all say to the rows. One that is too long for one of them is taken out of `rows`; nothing is asked twice."""
    while True:
        try:
            return hold_trial(contenders, rows, ask, budget_s=BUDGET_S)
        except TooLong as error:
            if error.row not in rows:
                raise
            rows.remove(error.row)


def _that_fit(ask: EngineAsk, model: str, rows: list[Row]) -> tuple[list[Row], int]:
    """The rows without those that are too long for the model, and how many those are; the longest are tried first."""
    stock, longest = Contender("stock", model), sorted(rows, key=lambda row: -row.characters)
    for count, row in enumerate(longest):
        with suppress(TooLong):
            ask(stock, row, limit_tokens=1)
            return [row for row in rows if row not in longest[:count]], count
    return [], len(rows)


def _contenders(job: Job, platform: Platform, ask: EngineAsk, rows: list[Row], examples: list[Row]) -> list[Contender]:
    tuned = str(job.fine_tuned_model)
    kept = checkpoints.list_page(platform.database, job.project_id, job.id, PageQuery(limit=10)).items
    last = max((checkpoint.step for checkpoint in kept), default=0)
    earlier = sorted((c for c in kept if c.step < last), key=lambda c: c.step)
    shown = as_many_as_fit(ask, job.model, examples, rows) if examples else None
    prompt, teacher = (job.metadata or {}).get(PROMPT_KEY), platform.settings.teacher
    return [
        Contender("stock", job.model),
        *([Contender("prompt", job.model, system=prompt)] if prompt else []),
        *([shown] if shown is not None and shown.examples else []),
        Contender("tuned", tuned),
        *(Contender("checkpoint", checkpoint.model) for checkpoint in earlier),
        *([Contender("teacher", teacher)] if teacher else []),
    ]


def _forgetting(contenders: list[Contender], ask: EngineAsk) -> Forgetting:
    both = [Contender(c.role, c.model) for c in contenders if c.role in {"stock", "tuned"}]
    stock, tuned = hold_trial(both, GENERAL, ask, budget_s=GENERAL_BUDGET_S)
    score = MENTIONS.score
    known = [
        tuple(score(reply.text, row.reference) for reply, row in zip(said, GENERAL, strict=False))
        for said in (stock, tuned)
    ]
    return Forgetting(*known)


def _curve(trial: Trial, platform: Platform, run: RunFolder, ask: EngineAsk, hold: Holding) -> tuple[CurvePoint, ...]:
    points = []
    for count in parts_of(trial.training_examples):
        part = tune_on_part(platform.settings.compute, run, count, hold)
        if part is None:
            continue
        name = f"{part.name}"
        ask.parts[name] = Adapter(f"{run.path.name}-{name}", part / "adapter")
        [said] = hold_trial([Contender("tuned", name)], trial.rows, ask)
        scores = (trial.measure.score(reply.text, row.reference) for reply, row in zip(said, trial.rows, strict=True))
        points.append(CurvePoint(count, tuple(scores)))
    return tuple(points)


def _losses(run: RunFolder) -> dict[int, float]:
    """Validation losses at epochs' ends."""
    told = [event for event, _ in run.read_events() if event.kind == "checkpoint"]
    losses = {event.step: event.data.get("full_valid_loss") for event in told}
    return {step: loss for step, loss in losses.items() if isinstance(loss, float)}
