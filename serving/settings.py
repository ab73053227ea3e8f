"""Settings of the server, from environment variables; serving/README.md lists them and those of the S3 endpoint."""

import sys
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving.origins import parse_origins, parse_urls
from serving.redaction import Redaction, parse_redaction
from serving.storage.objects import check_uri
from serving.strategies import Strategy, parse_strategies

MEGABYTE = 1_000_000
_Positive = Annotated[int, Field(ge=1)]
_Limit = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
_Delay = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]  # seconds
_Strategies = Annotated[tuple[Strategy, ...], NoDecode, BeforeValidator(parse_strategies)]
_Redaction = Annotated[Redaction | None, NoDecode, BeforeValidator(parse_redaction)]
_Uri = Annotated[str, AfterValidator(check_uri)]
_Urls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_urls)]
_Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_origins)]


class Settings(BaseSettings):
    """One attribute per environment variable, of the same name in capitals; an empty one is an unset one."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", populate_by_name=True)

    # Model
    model_uri: _Uri | None = Field(
        default=None, description="manifest.json, latest.json or .onnx: a path or s3://bucket/key"
    )
    model_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="digest of MODEL_URI's file")
    model_version: str | None = Field(default=None, description="version to report for a bare .onnx")
    model_commit: str | None = Field(default=None, description="Git commit to report for a bare .onnx")
    model_variant: Literal["auto", "float"] = Field(
        default="auto",
        description="auto | float; auto: the version's INT8 or FP16 where this machine suits it, else model.onnx",
    )
    model_reload_seconds: _Delay = Field(
        default=0,
        description="how often to look for a new version where MODEL_URI is a latest.json; 0: only at start",
    )
    signatures: Literal["off", "warn", "require"] = Field(
        default="warn", description="off | warn | require: what follows when the version has no valid signature"
    )
    signers: str | None = Field(default=None, description="file of public keys (PEM) whose signatures are valid")

    # Access
    api_key: SecretStr | None = Field(default=None, min_length=1, description="key that callers send as X-API-Key")
    api_key_file: str | None = Field(
        default=None,
        description="file of more keys, one a line; it may change while the server runs, and be missing beside API_KEY",
    )
    annotator_key_file: str | None = Field(
        default=None,
        description="file of annotators, a name and a key a line; boxes that they report are annotations",
    )
    api_key_for: Literal["all", "feedback"] = Field(
        default="all", description="all | feedback: routes that need the key; /metrics always"
    )

    # The page /try
    compare_urls: _Urls = Field(
        default=None, validate_default=True, description="other servers that /try may compare with, comma-separated"
    )
    cors_origins: _Origins = Field(
        default=None,
        validate_default=True,
        description="origins whose pages may call this server, comma-separated, such as https://dev.example.org",
    )

    # Concurrency
    workers: int = Field(default=0, ge=0, le=256, description="pictures processed at a time; 0: one per core")
    batch: int = Field(default=0, ge=0, le=64, description="pictures per inference; 0: 1 on a CPU, 8 on a GPU")
    decoders: int = Field(default=2, ge=1, le=64, description="processes that decode what could be hostile")
    max_waiting: _Limit = Field(default=32, description="pictures that may wait for a worker before 503")
    max_text_bytes: _Positive = Field(default=400_000, description="text fields of a form together")
    max_held_bytes: _Positive = Field(default=256 * MEGABYTE, description="request bodies in memory before 503")
    upload_seconds: _Seconds = Field(default=30, description="time limit of a request body before 408")
    request_seconds: _Seconds = Field(default=30, description="time limit of a picture, waiting included, before 503")
    drain_seconds: _Delay = Field(
        default=3, le=3_600, description="time from SIGTERM and not ready to refused connections"
    )

    # Connections
    max_connections: _Positive = Field(default=1_000, description="open connections; fewer where `ulimit -n` is small")
    header_seconds: _Seconds = Field(default=10, description="time limit of a request's head before 408")
    unread_seconds: _Seconds = Field(default=30, description="time limit for the other side to read on in an answer")
    keep_alive_seconds: _Seconds = Field(
        default=75, description="time until an idle connection is closed; longer than the router's (nginx: 60)"
    )

    # Size limits
    max_picture_bytes: _Positive = Field(default=20 * MEGABYTE, description="size of a picture file")
    max_picture_pixels: _Positive = Field(default=50_000_000, description="width x height of a picture, tile or frame")
    max_picture_parts: _Positive = Field(default=50_000, description="segments, chunks, tiles or strips of a picture")
    max_picture_scans: _Positive = Field(default=100, description="scans of a progressive JPEG")
    decode_memory_bytes: int = Field(
        default=0, ge=0, description="memory for decoding; 0: 80 % of the container's, less what the process needs"
    )
    decode_seconds: int = Field(
        default=10, ge=1, le=86_400, description="CPU time of a decoder process for one picture"
    )
    max_batch_pictures: _Positive = Field(default=32, description="pictures in one /detect/batch")
    max_batch_bytes: _Positive = Field(default=100 * MEGABYTE, description="size of all pictures of one /detect/batch")
    max_video_bytes: _Positive = Field(default=200 * MEGABYTE, description="size of a video file")
    max_video_seconds: _Seconds = Field(default=60, description="length of a video's beginning that is analysed")
    max_video_frames: _Positive = Field(default=300, description="frames of a video that are analysed")
    max_video_detections: _Positive = Field(default=50_000, description="detections in all frames of a video together")
    max_drawn_bytes: _Positive = Field(default=50 * MEGABYTE, description="size of a video with boxes")
    video_work_seconds: _Seconds = Field(default=120, description="time limit of the analysis of a video")

    # Video jobs
    max_jobs: _Positive = Field(default=4, description="videos of /jobs/video that wait or are analysed before 429")
    max_job_bytes: _Positive = Field(
        default=100 * MEGABYTE,
        description="their files, and results in memory, together; a part of MAX_HELD_BYTES",
    )
    max_jobs_per_hour: _Positive = Field(default=60, description="jobs that a server takes per hour before 429")
    max_job_seconds: _Seconds = Field(default=600, description="length of a video's beginning that a job analyses")
    max_job_frames: _Positive = Field(default=3_000, description="frames of a video that a job analyses")
    job_work_seconds: _Seconds = Field(default=600, description="time limit of a job's analysis")
    job_keep_seconds: _Seconds = Field(default=3_600, description="time until an ended job and its result are gone")
    replicas: _Positive = Field(
        default=1, description="servers that answer side by side; above 1 jobs need CAPTURE_URI, where all find them"
    )

    # Capture for labelling
    capture_uri: _Uri | None = Field(
        default=None, description="folder or s3://bucket[/prefix] of captures; empty: none"
    )
    capture_strategies: _Strategies = Field(
        default="nothing_found,near_threshold:0.1",
        validate_default=True,
        description="pictures to capture: nothing_found | below:C | near_threshold:E | random:F, comma-separated",
    )
    capture_per_minute: _Limit = Field(
        default=10, description="most captures of a server per minute, and as many by /feedback"
    )
    capture_per_hour: _Limit = Field(
        default=100, description="most captures of an environment per hour (UTC), and as many of a server by /feedback"
    )
    capture_per_day: _Limit = Field(
        default=500, description="most captures of an environment per day (UTC), and as many of a server by /feedback"
    )
    capture_similar_bits: int = Field(
        default=4, ge=-1, le=64, description="drop a capture within this Hamming distance of a kept one; -1: keep all"
    )
    capture_redact: _Redaction = Field(
        default=None,
        description="taken out of captures before they are stored: x1 y1 x2 y2 in parts of the picture, "
        "comma-separated, or module:function",
    )
    max_feedback_boxes: _Positive = Field(default=1_000, description="boxes in one /feedback")
    capture_queue_bytes: _Positive = Field(default=32 * MEGABYTE, description="captures that may wait for the store")
    feedback_webhook_url: str | None = Field(
        default=None,
        pattern="^https?://[^/?#@]+(/[^#]*)?$",
        description="called after feedback was stored; empty: nothing",
    )
    feedback_webhook_secret: SecretStr | None = Field(default=None, min_length=1, description="its bearer token")
    recent_bytes: _Limit = Field(default=32 * MEGABYTE, description="answered pictures remembered for feedback")
    environment: str = Field(default="local", pattern="^[a-z0-9][a-z0-9-]{0,62}$", description="folder of captures/")

    # Label Studio
    ml_backend: bool = Field(default=False, description="true: answer Label Studio as its ML backend, under /ml")
    label_studio_url: str | None = Field(
        default=None, pattern="^https?://[^/?#@]+(/[^?#]*)?$", description="Label Studio, whose uploads tasks may name"
    )
    label_studio_api_key: SecretStr | None = Field(
        default=None, min_length=1, description="personal access token or legacy token, to read the uploads"
    )
    ml_backend_bucket: str | None = Field(
        default=None,
        pattern="^s3://[^/]+",
        description="s3://bucket[/prefix] of pictures that tasks may name; empty: none",
    )

    # Shadow
    shadow_uri: _Uri | None = Field(default=None, description="the challenger, as MODEL_URI; empty: none")
    shadow_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="digest of SHADOW_URI's file")
    shadow_share: float = Field(
        default=0.05, ge=0, le=1, description="share of the pictures, 0 to 1, that the challenger sees"
    )

    # Traces
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="collector of traces (OTLP over HTTP), like http://otel:4318; empty: none",
    )

    # Log
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = Field(
        default="INFO", description="DEBUG | INFO | WARNING | ERROR"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object) -> object:
        if isinstance(value, str) and not value.isascii() and value != value.encode(errors="replace").decode():
            raise ValueError("has bytes that are no text; expected UTF-8")  # no header or JSON could carry them
        return value


def read_settings() -> Settings:
    """Return the settings of the environment; wrong ones exit with a line for each."""
    try:
        return Settings()
    except ValidationError as error:
        sys.exit("\n".join(f"error: {str(part['loc'][0]).upper()}: {part['msg']}" for part in error.errors()))
