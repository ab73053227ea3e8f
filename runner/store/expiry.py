"""Expiry of objects in a bucket: S3 lifecycle rules."""

from collections.abc import Collection, Mapping

from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    Expiration,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.xml import marshal

from runner.store.bucket import Bucket

_OURS = "flywheel-"  # prefix of our rules' names; other rules stay
_PIPELINE_DAYS = 30  # files that the tasks of a PipelineRun pass on
_UPLOAD_DAYS = 7  # unfinished multipart uploads
_JOB_DAYS = 1  # results of videos, which the servers call gone after JOB_KEEP_SECONDS


def set_expiry(
    bucket: Bucket, captures_days: Mapping[str, int], versions_days: int, environments: Collection[str], minio: bool
) -> str:
    """Set our lifecycle rules, keeping those of others; return them as text.

    The days are those after which captures of an environment ("" for all others), and earlier versions of replaced and
    removed objects, expire; of two rules for a key the shorter holds, so no environment may have more than "". Results
    of videos of `environments` expire after a day. Earlier versions of what was published do not: `store verify
    --restore` brings them back. MinIO removes unfinished uploads itself, and rejects a rule for them.
    """
    earlier, earlier_jobs = (
        {"noncurrent_version_expiration": NoncurrentVersionExpiration(noncurrent_days=days)}
        for days in (versions_days, _JOB_DAYS)
    )
    rules = [
        _rule("pipeline", "pipeline/", expiration=Expiration(days=_PIPELINE_DAYS), **earlier),
        _rule("dvc", "dvc/", **earlier),
        _rule("markers", expiration=Expiration(expired_object_delete_marker=True)),
    ]
    for name, days in captures_days.items():
        rule, prefix = (f"captures-{name}", f"captures/{name}/") if name else ("captures", "captures/")
        rules.append(_rule(rule, prefix, expiration=Expiration(days=days), **earlier))
    for name in sorted(environments):
        prefix = f"captures/{name}/jobs/"
        rules.append(_rule(f"jobs-{name}", prefix, expiration=Expiration(days=_JOB_DAYS), **earlier_jobs))
    if not minio:
        unfinished = AbortIncompleteMultipartUpload(days_after_initiation=_UPLOAD_DAYS)
        rules.append(_rule("uploads", abort_incomplete_multipart_upload=unfinished))
    own = "".join(f" ({name}: {days})" for name, days in captures_days.items() if name)
    said = f"captures after {captures_days['']} days{own}, earlier versions after {versions_days}"
    ours, others = _current(bucket)
    if _as_xml(ours) == _as_xml(rules):
        return f"{said}, as before"
    bucket.client.set_bucket_lifecycle(bucket.name, LifecycleConfig(others + rules))
    kept = _as_xml(_current(bucket)[0]).keys() == _as_xml(rules).keys()
    return said if kept else "this endpoint keeps no such rules; nothing expires"


def _rule(name: str, prefix: str = "", **what: object) -> Rule:
    return Rule(ENABLED, rule_id=f"{_OURS}{name}", rule_filter=Filter(prefix=prefix), **what)


def _current(bucket: Bucket) -> tuple[list[Rule], list[Rule]]:
    """Return the bucket's rules: ours and those of others."""
    config = bucket.client.get_bucket_lifecycle(bucket.name)
    ours, others = list[Rule](), list[Rule]()
    for rule in config.rules if config else []:
        (ours if (rule.rule_id or "").startswith(_OURS) else others).append(rule)
    return ours, others


def _as_xml(rules: list[Rule]) -> dict[str | None, bytes]:
    return {rule.rule_id: marshal(LifecycleConfig([rule])) for rule in rules}
