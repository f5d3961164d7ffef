"""What Prometheus reads of a service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32)
SCORES = tuple(step / 10 for step in range(1, 10))


class Measures:
    """Counters of one service, apart from those of others in the same process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        kept = {"registry": self.registry}
        self.answers = Counter("glass_answers", "Answers to posted pictures by HTTP status.", ["status"], **kept)
        self.verdicts = Counter("glass_pictures", "Scored pictures by verdict.", ["verdict"], **kept)
        self.scores = Histogram("glass_score", "Scores.", buckets=SCORES, **kept)
        self.drift = Gauge("glass_drift", "How far the last picture is from those of the training; limit: 1.", **kept)
        self.seconds = Histogram("glass_seconds", "From a request's head to its answer.", buckets=SECONDS, **kept)
        self.batches = Histogram("glass_batch_pictures", "Pictures scored together.", buckets=SIZES, **kept)
        self.under_way = Gauge("glass_under_way", "Requests accepted and not answered yet.", **kept)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text form."""
        return generate_latest(self.registry)
