"""Settings of the server, from environment variables; serving/README.md lists them."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving.storage.endpoint import Endpoint
from serving.strategies import Strategy, parse_strategies

MEGABYTE = 1_000_000
_Bytes = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """One attribute per environment variable, of the same name in capitals; an empty one is an unset one."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", populate_by_name=True)

    # Model
    model_uri: str | None = Field(default=None, description="manifest.json or .onnx: a path or s3://bucket/key")
    model_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="digest of what MODEL_URI names"
    )
    model_version: str | None = Field(default=None, description="version to report where MODEL_URI is a bare .onnx")
    model_commit: str | None = Field(default=None, description="Git commit to report where MODEL_URI is a bare .onnx")

    # Endpoint of s3://
    aws_endpoint_url: str | None = Field(default=None, description="URL of the object store")
    aws_access_key_id: str | None = Field(default=None, description="its user")
    aws_secret_access_key: SecretStr | None = Field(default=None, description="and password")
    aws_default_region: str | None = Field(default=None, description="its region; asked for where empty")
    ca_bundle: str | None = Field(default=None, description="file of certificates to trust instead of the system's")

    # Access
    api_key: SecretStr | None = Field(default=None, min_length=1, description="key that callers send as X-API-Key")
    api_key_for: str = Field(
        default="all",
        pattern="^(all|feedback)$",
        description="all | feedback: what needs the key; /metrics always does",
    )

    # Concurrency
    workers: int = Field(default=0, ge=0, le=256, description="pictures worked on at a time; 0: one per core")
    batch: int = Field(default=0, ge=0, le=64, description="pictures in one inference; 0: 1 on a CPU, 8 on a GPU")
    max_waiting: int = Field(default=32, ge=0, description="pictures that may wait for a worker before 503")
    max_held_bytes: _Bytes = Field(
        default=256 * MEGABYTE, description="request bodies held in memory at once before 503"
    )
    upload_seconds: _Seconds = Field(default=30, description="time for a request body to arrive before 408")
    request_seconds: _Seconds = Field(
        default=30, description="time for a picture to be answered, waiting included, before 503"
    )
    drain_seconds: float = Field(
        default=3, ge=0, description="time between not ready and refusing connections at SIGTERM"
    )

    # Size limits
    max_picture_bytes: _Bytes = Field(default=20 * MEGABYTE, description="one picture file")
    max_picture_pixels: int = Field(default=50_000_000, ge=1, description="width x height of one picture or frame")
    max_batch_pictures: int = Field(default=32, ge=1, description="pictures in one /detect/batch")
    max_batch_bytes: _Bytes = Field(default=100 * MEGABYTE, description="all pictures of one /detect/batch together")
    max_video_bytes: _Bytes = Field(default=200 * MEGABYTE, description="one video file")
    max_video_seconds: _Seconds = Field(default=60, description="how far into a video it is looked at")
    max_video_frames: int = Field(default=300, ge=1, description="frames of a video that are looked at")
    video_work_seconds: _Seconds = Field(default=120, description="time that one video may take")

    # Capture for labelling
    capture_uri: str | None = Field(
        default=None, description="folder or s3://bucket[/prefix] that captures/ goes under; off"
    )
    capture_strategies: Annotated[tuple[Strategy, ...], NoDecode] = Field(
        default=parse_strategies("nothing_found,near_threshold:0.1"),
        description="which pictures, separated by commas: nothing_found | below:C | near_threshold:E | random:F",
    )
    capture_per_minute: int = Field(default=10, ge=0, description="captures at most")
    capture_per_hour: int = Field(default=100, ge=0, description="captures at most")
    capture_per_day: int = Field(default=500, ge=0, description="captures at most")
    capture_similar_bits: int = Field(
        default=4, ge=-1, le=64, description="of 64; closer to a kept one: dropped; -1: keep all"
    )
    capture_queue_bytes: _Bytes = Field(
        default=32 * MEGABYTE, description="captures waiting to be written before they drop"
    )
    recent_bytes: int = Field(
        default=32 * MEGABYTE, ge=0, description="pictures remembered so that feedback needs no upload"
    )
    environment: str = Field(default="local", pattern="^[a-z0-9][a-z0-9-]{0,62}$", description="folder of captures/")

    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG | INFO | WARNING | ERROR"
    )

    @field_validator("capture_strategies", mode="before")
    @classmethod
    def _strategies(cls, value: object) -> object:
        return parse_strategies(value) if isinstance(value, str) else value


def endpoint_of(settings: Settings) -> Endpoint:
    """Return the S3 endpoint of the settings."""
    secret = settings.aws_secret_access_key
    return Endpoint(
        settings.aws_endpoint_url,
        settings.aws_access_key_id,
        secret.get_secret_value() if secret else None,
        settings.ca_bundle,
        settings.aws_default_region,
    )
