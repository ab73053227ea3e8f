"""State shared by the routes of a server."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from serving.batching import Batcher
from serving.capture import Capturer
from serving.errors import Refused
from serving.loading import Loader
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.model import Model
from serving.upload import Budget
from serving.workers import Workers, cores

_GPU_BATCH = 8


@dataclass
class State:
    """State of one server."""

    settings: Settings
    metrics: Metrics = field(init=False)
    workers: Workers = field(init=False)
    budget: Budget = field(init=False)
    capturer: Capturer = field(init=False)
    loader: Loader = field(init=False)
    batcher: Batcher | None = field(init=False, default=None)
    draining: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Create the parts from the settings; threads start with the server."""
        settings = self.settings
        self.metrics = Metrics()
        self.workers = Workers(
            settings.workers or cores(), waiting=settings.max_waiting, seconds=settings.request_seconds
        )
        self.budget = Budget(settings.max_held_bytes)
        self.capturer = Capturer(settings, self.metrics)
        self.loader = Loader(settings, self._loaded)
        self.metrics.watch(self.metrics.queue_length, lambda: self.workers.waiting)
        self.metrics.watch(self.metrics.held_bytes, lambda: self.budget.held)
        self.metrics.watch(self.metrics.ready, lambda: float(self.ready))

    @property
    def ready(self) -> bool:
        """Whether the server should get requests."""
        return self.loader.model is not None and not self.draining

    def model(self) -> tuple[Model, Batcher]:
        """Return the model and its batcher, or raise Refused while the model is not loaded."""
        model, batcher = self.loader.model, self.batcher
        if model is None or batcher is None:
            raise Refused(503, "not_ready", "the model is not loaded yet; /readyz says why, try again later")
        return model, batcher

    def _loaded(self, model: Model) -> None:
        on_gpu = model.detector.provider != "CPUExecutionProvider"
        fixed = model.detector.batch == 1  # a model with a fixed batch of 1
        size = 1 if fixed else self.settings.batch or (_GPU_BATCH if on_gpu else 1)
        self.batcher = Batcher(model.detector, size)
        self.metrics.loaded(model.name, model.detector.classes, model.detector.provider)


async def _state_of(request: Request) -> State:
    # async, because FastAPI would run a plain function on a thread
    state = request.app.state.server
    assert isinstance(state, State)
    return state


Shared = Annotated[State, Depends(_state_of)]
