"""What Prometheus reads at /metrics; labels are names of tasks and releases, never text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128)

UNKNOWN = "unknown"
"""The task of a request that was refused before its task was known: clients make no labels."""


class Metrics:
    """Counters of one server, in a collector of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "moelora_requests", "Requests for completions", ("task", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "moelora_request_seconds",
            "From a request's first byte to its answer",
            ("task",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "moelora_tokens",
            "Tokens read (prompt) and written (completion)",
            ("task", "kind"),
            registry=self.registry,
        )
        self.queue = Gauge("moelora_queue_length", "Prompts that wait", registry=self.registry)
        self.batch = Histogram(
            "moelora_batch_prompts", "Prompts of a batch", buckets=PROMPTS, registry=self.registry
        )
        self.release = Gauge(
            "moelora_release_info", "1 for the release that answers", ("release",), registry=self.registry
        )
        self.swaps = Counter("moelora_swaps", "Releases that were loaded", registry=self.registry)
        self.failures = Counter(
            "moelora_follow_failures",
            "Looks at the channel that failed; the release of before answers on",
            registry=self.registry,
        )

    def withdrawn(self) -> None:
        """Nothing answers from now on."""
        self.release.clear()

    def served(self, release: str) -> None:
        """``release`` answers from now on."""
        self.release.clear()
        self.release.labels(release).set(1)
        self.swaps.inc()
