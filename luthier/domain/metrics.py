"""What Prometheus may know: counts and times, no names of projects, models, keys or files.

Counters are this process's; gauges are read from the database when somebody looks.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from luthier.domain.platform import Platform
from luthier.store import counts

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

REQUESTS: Final = Counter("luthier_requests", "Requests answered", ("operation", "status"), registry=REGISTRY)
REQUEST_SECONDS: Final = Histogram(
    "luthier_request_seconds",
    "Seconds from a request's arrival to its answer's end",
    ("operation",),
    buckets=SECONDS,
    registry=REGISTRY,
)
TOKENS: Final = Counter("luthier_tokens", "Tokens of answers", ("kind",), registry=REGISTRY)
ANSWER_SECONDS: Final = Histogram(
    "luthier_answer_seconds", "Seconds of an engine's answer", ("endpoint",), buckets=SECONDS, registry=REGISTRY
)
JOBS: Final = Gauge("luthier_unfinished_jobs", "Fine-tuning jobs that have not ended", ("status",), registry=REGISTRY)
BATCHES: Final = Gauge("luthier_unfinished_batches", "Batches that have not ended", ("status",), registry=REGISTRY)
OUTBOX: Final = Gauge(
    "luthier_undelivered_notices", "Webhooks and mails still to deliver", ("kind",), registry=REGISTRY
)
OLDEST: Final = Gauge(
    "luthier_oldest_unclaimed_job_seconds", "How long the first of the queue waits", registry=REGISTRY
)
ENGINES: Final = Gauge("luthier_engines", "Base models with an engine in this process", registry=REGISTRY)


def text(platform: Platform) -> bytes:
    """Everything, as Prometheus reads it."""
    counted = counts.unfinished(platform.database, now=platform.database.now())
    for gauge, found in ((JOBS, counted.jobs), (BATCHES, counted.batches), (OUTBOX, counted.outbox)):
        gauge.clear()
        for label, count in found.items():
            gauge.labels(label).set(count)
    OLDEST.set(counted.oldest_unclaimed_s)
    ENGINES.set(len(platform.engines))
    return generate_latest(REGISTRY)
