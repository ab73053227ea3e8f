"""State shared by the routes of a server."""

from typing import Annotated

from fastapi import Depends, Request

from serving.captures.reports import Reports
from serving.captures.webhook import FeedbackWebhook
from serving.captures.writer import CaptureWriter
from serving.decoding.pool import Decoding
from serving.errors import Refused
from serving.inference.batching import Batcher
from serving.inference.loading import Loader
from serving.inference.prediction import RecentPredictions
from serving.inference.workers import Workers
from serving.intake.access import Keys
from serving.intake.upload import Uploads
from serving.jobs import Jobs
from serving.label_studio import TaskPictures
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.shadow import Shadow
from serving.storage.model import Model
from serving.tracing import Traces
from serving.vision.cores import available_cores

_GPU_BATCH = 8


class State:
    """State of one server; the threads of its parts start with the server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings)
        self.metrics = Metrics()
        collector = settings.otel_exporter_otlp_endpoint
        self.traces = Traces(collector) if collector else None
        threads = settings.workers or available_cores()
        self.workers = Workers(threads, waiting=settings.max_waiting, seconds=settings.request_seconds)
        self.uploads = Uploads(settings.max_held_bytes)
        self.recent = RecentPredictions(settings.recent_bytes)
        self.decoding = Decoding(settings, self.metrics)
        self.captures = CaptureWriter(settings, self.metrics, self.decoding)
        self.feedback_webhook = FeedbackWebhook(settings, self.metrics)
        self.shadow = Shadow(settings, self.metrics, self.workers, self.decoding, self.captures, lambda: self.ready)
        self.task_pictures = TaskPictures(settings)
        self.reports = Reports(settings)
        self.jobs = Jobs(settings, self.metrics, self.uploads.budget)
        self.loader = Loader(settings, self.use, self.decoding.budget, self.metrics)
        self.current: tuple[Model, Batcher] | None = None  # until a model is loaded; the next one replaces it
        self.draining = False  # whether the server was told to stop
        self.metrics.queue_length.set_function(lambda: self.workers.waiting)
        self.metrics.held_bytes.set_function(lambda: self.uploads.budget.held)
        self.metrics.ready.set_function(lambda: self.ready)

    @property
    def ready(self) -> bool:
        """Whether the server should get requests."""
        return self.current is not None and not self.draining

    def model(self) -> tuple[Model, Batcher]:
        """Return the model and its batcher, or raise Refused while the model is not loaded."""
        if self.current is None:
            raise Refused(503, "the model is not loaded yet; /readyz gives the reason, try again later", "not_ready")
        return self.current

    def use(self, model: Model) -> None:
        """Answer requests that begin from now on with this model."""
        default = 1 if model.detector.provider == "CPUExecutionProvider" else _GPU_BATCH
        # A model with a fixed batch takes that many at a time, waiting ones or empty ones.
        self.current = model, Batcher(model.detector, model.detector.batch or self.settings.batch or default)
        self.metrics.loaded(model.name, model.detector.classes, model.detector.provider, model.served.kind)


async def _state_of(request: Request) -> State:
    # async, because FastAPI would run a plain function on a thread
    state = request.app.state.server
    assert isinstance(state, State)
    return state


Shared = Annotated[State, Depends(_state_of)]
