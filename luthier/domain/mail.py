"""The mail about a finished job: its words, and its way to an SMTP server. Knows no database."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

from luthier.core.errors import InvalidRequest
from luthier.core.jobs import Job
from luthier.domain.delivery import DeliveryFailed

TIMEOUT_S: Final = 20.0
# What a failed job's owner can do, by the first word of the error that helps.
ADVICE: Final = {
    "invalid_n_examples": "Add examples until there are ten or more, upload the file and start a new job.",
    "invalid_training_file": "Mend the line that is named, upload the file again and start a new job.",
    "invalid_validation_file": "Mend the validation file, upload it again and start a new job.",
    "invalid_file_format": "Mend the line that is named, upload the file again and start a new job.",
}
OTHERWISE: Final = "Read the job's events (luthier jobs events {job}); when the cause is gone, start a new job."


def compose(
    job: Job,
    metrics: Mapping[str, int | float],
    *,
    base_url: str,
    sender: str,
    recipients: str,
    message_id: str,
    verdict: str = "",
) -> EmailMessage:
    """The mail, as text and as HTML: of the job's end, or of its verdict, which comes after it.

    `metrics` are the last checkpoint's; `message_id` lets a repeat be recognised.
    """
    if verdict:
        title, text = _verdict(job, verdict)
    else:
        title, text = _success(job, metrics, base_url) if job.status == "succeeded" else _failure(job)
    message = EmailMessage()
    message["Subject"] = title
    message["From"] = sender
    message["To"] = recipients
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{message_id}@luthier>"
    message.set_content(text)
    body = "".join(
        f"<pre>{html.escape(part)}</pre>" if "\n" in part else f"<p>{html.escape(part)}</p>"
        for part in text.strip().split("\n\n")
    )
    message.add_alternative(f"<html><body><h2>{html.escape(title)}</h2>{body}</body></html>", subtype="html")
    return message


def send(message: EmailMessage, smtp_url: str) -> None:
    """Hand the mail to the server of `smtp://user:password@host:587` (STARTTLS where offered) or `smtps://…`.

    Errors: `DeliveryFailed` in the server's words, `InvalidRequest` for a URL that is none.
    """
    parts = urlsplit(smtp_url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise InvalidRequest(f"setting smtp_url: expected smtp://host:port or smtps://host:port, not {smtp_url!r}")
    tls = parts.scheme == "smtps"
    try:
        asyncio.run(
            aiosmtplib.send(
                message,
                hostname=parts.hostname,
                port=parts.port or (465 if tls else 25),
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                use_tls=tls,
                timeout=TIMEOUT_S,
            )
        )
    except (aiosmtplib.SMTPException, OSError) as error:
        raise DeliveryFailed(f"{parts.hostname} did not take the mail: {type(error).__name__} {error}") from error


def _success(job: Job, metrics: Mapping[str, int | float], base_url: str) -> tuple[str, str]:
    minutes = ((job.finished_at or job.created_at) - job.created_at) / 60
    losses = [
        f"{words} {metrics[key]:.4f}"
        for key, words in (
            ("train_loss", "training loss"),
            ("full_valid_loss", "validation loss"),
            ("train_mean_token_accuracy", "training token accuracy"),
        )
        if key in metrics
    ]
    text = f"""\
Your model is ready: {job.fine_tuned_model}

Job {job.id} tuned {job.model} on {job.trained_tokens or 0:,} tokens in {minutes:.1f} minutes. \
{"Final " + ", ".join(losses) + "." if losses else ""} {f"{job.quote}." if job.quote else ""}

Call it in Python:

from openai import OpenAI
client = OpenAI(base_url="{base_url}")
answer = client.chat.completions.create(
    model="{job.fine_tuned_model}",
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.choices[0].message.content)

Or with curl:

curl {base_url}/chat/completions \\
  -H "Authorization: Bearer $OPENAI_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{job.fine_tuned_model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
"""
    return f"Your fine-tuned model is ready: {job.fine_tuned_model}", text


def _verdict(job: Job, verdict: str) -> tuple[str, str]:
    text = f"""\
{verdict}

Every row and reply is in the job's result files. To see them:

luthier compare {job.fine_tuned_model} --out verdict
"""
    return f"Was it worth it? {job.fine_tuned_model}", text


def _failure(job: Job) -> tuple[str, str]:
    code = job.error.code if job.error else "server_error"
    why = job.error.message if job.error else "no reason was given"
    blamed = f" ({job.error.param}: {_file(job)})" if job.error and job.error.param else ""
    text = f"""\
Job {job.id}, tuning {job.model}, ended without a model.

Why: {why}{blamed}

What to do: {ADVICE.get(code, OTHERWISE).format(job=job.id)}
"""
    return f"Your fine-tuning job failed: {job.id}", text


def _file(job: Job) -> str:
    return str(job.validation_file if job.error and job.error.param == "validation_file" else job.training_file)
