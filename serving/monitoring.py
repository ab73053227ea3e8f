"""Prometheus metrics of /metrics."""

from collections.abc import Sequence
from functools import partial

import prometheus_client as prometheus

from serving.storage.detections import Detection, ModelName

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """All metrics of a server; each has its own registry, so that several servers can live in one process."""

    def __init__(self) -> None:
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second, unused series for each metric
        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)

        counter = partial(prometheus.Counter, namespace="flywheel", registry=registry)
        histogram = partial(prometheus.Histogram, namespace="flywheel", registry=registry, buckets=_SECONDS)
        gauge = partial(prometheus.Gauge, namespace="flywheel", registry=registry)
        self.requests = counter("requests", "requests by route and status", ("route", "status"))
        self.seconds = histogram("request_seconds", "time from a request's first byte to its answer", ["route"])
        self.phase_seconds = histogram("phase_seconds", "time of one picture in each phase", ["phase"])
        self.rejects = counter("rejects", "requests and files of batches that were refused", ["reason"])
        self.pictures = counter("pictures", "pictures and frames on which the model ran")
        self.nothing_found = counter("nothing_found", "pictures and frames without a detection")
        self.detections = counter("detections", "objects detected", ["class"])
        self.confidence = histogram("confidence", "confidences of the detections", ["class"], buckets=_CONFIDENCES)
        self.captures = counter("captures", "pictures kept for labelling, by strategy", ["strategy"])
        self.captures_dropped = counter(
            "captures_dropped", "pictures that a strategy selected but that were not kept", ["reason"]
        )
        self.feedback = counter("feedback", "verdicts of people", ["verdict"])
        self.feedback_webhook = counter("feedback_webhook", "calls that told of feedback, or could not", ["result"])
        self.queue_length = gauge("queue_length", "pictures waiting for a worker")
        self.capture_queue_length = gauge("capture_queue_length", "captures waiting to be written")
        self.captures_writable = gauge("captures_writable", "0 after a capture that could not be written")
        self.captures_writable.set(1)
        self.jobs = counter("jobs", "videos of /jobs/video by how they ended", ["state"])
        self.jobs_at_work = gauge("jobs_at_work", "videos of /jobs/video that wait or are analysed")
        self.shadow_ready = gauge("shadow_ready", "1 once the challenger is loaded")
        self.shadow_pictures = counter("shadow_pictures", "pictures that the challenger saw too")
        self.shadow_disagreements = counter("shadow_disagreements", "pictures in which one finds what the other lacks")
        self.shadow_boxes = counter("shadow_boxes", "boxes of both models, by which of them found it", ["found_by"])
        self.shadow_dropped = counter("shadow_dropped", "sampled pictures that the challenger did not see", ["reason"])
        self.held_bytes = gauge("held_bytes", "request bodies in memory")
        self.connections = gauge("connections", "open connections")
        self.connections_closed = counter("connections_closed", "connections that the server gave up", ["reason"])
        self.decode_memory = gauge("decode_memory_bytes", "memory that pictures being decoded may take")
        self.decoders_ended = counter("decoders_ended", "decoder processes that did not finish a picture", ["reason"])
        self.ready = gauge("ready", "1 while /readyz answers 200")
        self.reloads = counter("model_reloads", "new versions that were loaded, or could not be", ["result"])
        self.model = prometheus.Info("flywheel_model", "the loaded model", registry=registry)

    def loaded(self, name: ModelName, classes: Sequence[str], provider: str, kind: str) -> None:
        """Set the model's name, and its classes at zero before the first detection; `kind`: float, int8 or fp16."""
        about = {key: str(value or "") for key, value in name.model_dump().items()}
        self.model.info(about | {"provider": provider, "served": kind})
        for label in classes:
            self.detections.labels(label)

    def answered(self, detections: Sequence[Detection], phases_ms: dict[str, float]) -> None:
        """Count one picture."""
        self.pictures.inc()
        if not detections:
            self.nothing_found.inc()
        for detection in detections:
            self.detections.labels(detection.label).inc()
            self.confidence.labels(detection.label).observe(detection.confidence)
        for phase, milliseconds in phases_ms.items():
            self.phase_seconds.labels(phase).observe(milliseconds / 1e3)

    def text(self) -> bytes:
        """Return the exposition format."""
        return prometheus.generate_latest(self._registry)
