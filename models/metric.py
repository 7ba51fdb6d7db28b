"""What this process counts while it works, for Prometheus. No label holds an id, a name or anything a caller sends.

What all processes share and the database knows is not counted here but read (services/reading.py).
"""

import functools
from collections import deque
from time import monotonic, perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

BUILD = Gauge("linli_build_info", "Always 1; the label tells the version.", ["version"], registry=REGISTRY)
REQUESTS = Counter(
    "linli_requests_total", "Requests answered, by route.", ["method", "route", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "linli_request_seconds",
    "How long answers took.",
    ["method", "route"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
PAYMENTS_OPENED = Counter(
    "linli_payments_opened_total",
    "Payments asked for: opened (or handed out again), or the code of the refusal.",
    ["outcome"],
    registry=REGISTRY,
)
PAYMENTS_CLOSED = Counter("linli_payments_closed_total", "Payments closed unpaid.", ["reason"], registry=REGISTRY)
SETTLEMENTS = Counter(
    "linli_settlements_total",
    "Words of WeChat that an order was paid, by who brought them and what became of them.",
    ["source", "outcome"],
    registry=REGISTRY,
)
SETTLEMENT_LAG = Histogram(
    "linli_settlement_lag_seconds",
    "From WeChat's success_time to posted.",
    ["source"],
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 1800, 7200, 86400),
    registry=REGISTRY,
)
CALLBACKS = Counter(
    "linli_callbacks_total", "Deliveries of WeChat's callbacks.", ["kind", "outcome"], registry=REGISTRY
)
WECHAT_SECONDS = Histogram(
    "linli_wechat_call_seconds",
    "Calls to WeChat. outcome: done, refused (a clear no), unknown (no trustworthy answer).",
    ["operation", "outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 6, 10),
    registry=REGISTRY,
)


def count_request(method: str, route: str, status: int, took_s: float) -> None:
    """Note one answer."""
    counter, histogram = _of_route(method, route, status)
    counter.inc()
    histogram.observe(took_s)


@functools.cache  # a look-up by labels costs more than the counting; routes and statuses are few
def _of_route(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, str(status)), REQUEST_SECONDS.labels(method, route)


class CallTimer:
    """Times one call to WeChat: ``outcome`` is unknown until somebody knows better."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.outcome = "unknown"

    def __enter__(self) -> "CallTimer":
        self._begun = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        WECHAT_SECONDS.labels(self.operation, self.outcome).observe(perf_counter() - self._begun)
        LATELY.note(unknown=self.outcome == "unknown")


class Lately:
    """What this process saw of WeChat in the last five minutes, for its report (models/process_report.py)."""

    WINDOW_S = 300

    def __init__(self) -> None:
        self._calls: deque[tuple[float, bool]] = deque(maxlen=2000)
        self._skew: tuple[float, float] | None = None

    def note(self, *, unknown: bool) -> None:
        """A call to WeChat has ended."""
        self._calls.append((monotonic(), unknown))

    def note_clock(self, skew_s: float) -> None:
        """WeChat told its time: how far ahead of it our clock is."""
        self._skew = (monotonic(), skew_s)

    def calls(self) -> tuple[int, int]:
        """How many calls there were, and how many of them had no trustworthy answer."""
        since = monotonic() - self.WINDOW_S
        recent = [unknown for at, unknown in list(self._calls) if at > since]
        return len(recent), sum(recent)

    def skew_s(self) -> float | None:
        """How far ahead of WeChat's clock ours was when WeChat last told its time; None for nothing recent."""
        return self._skew[1] if self._skew and self._skew[0] > monotonic() - self.WINDOW_S else None

    def forget(self) -> None:
        """Start anew, for tests."""
        self._calls.clear()
        self._skew = None


LATELY = Lately()
