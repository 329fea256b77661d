"""What `/metrics` says, in Prometheus's text form: requests, refusals by code, the queue, seconds by stage, memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from funduscope.serve.worker_pool import WorkerPool

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class ServiceMetrics:
    """The figures of one service. Labels are routes, statuses, codes and stages: nothing that a client chooses."""

    def __init__(self, workers: WorkerPool) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "funduscope_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._refusals = Counter(
            "funduscope_refusals", "Requests that were refused, by code.", ["code"], registry=registry
        )
        self._seconds = Histogram(
            "funduscope_request_seconds", "Seconds of a request.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._stages = Histogram(
            "funduscope_stage_seconds", "Seconds of a photo by stage.", ["stage"], buckets=_SECONDS, registry=registry
        )
        waiting = Gauge("funduscope_photos_waiting", "Photos that wait for a worker.", registry=registry)
        waiting.set_function(lambda: workers.waiting)
        running = Gauge("funduscope_photos_running", "Photos that are being read.", registry=registry)
        running.set_function(lambda: workers.running)
        ready = Gauge("funduscope_ready", "1 where the model has answered, otherwise 0.", registry=registry)
        ready.set_function(lambda: workers.is_ready)
        restarts = Gauge("funduscope_worker_restarts", "Workers that died and were replaced.", registry=registry)
        restarts.set_function(lambda: workers.restarts)
        memory = Gauge(
            "funduscope_worker_process_resident_memory_bytes",
            "Memory of all workers; 0 if the system has no /proc.",
            registry=registry,
        )
        memory.set_function(lambda: sum(map(_resident_bytes, workers.pids)))
        # Memory, processor time and open files, if the system has /proc.
        ProcessCollector("funduscope_front", registry=registry)

    def count_request(self, route: str, status: int, code: str | None, seconds: float) -> None:
        """One request that was answered. code: of its refusal, None without one."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if code is not None:
            self._refusals.labels(code).inc()

    def count_stages(self, seconds: Mapping[str, float]) -> None:
        """The stages of one photo."""
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:  # another system, or the process has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
