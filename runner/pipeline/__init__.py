"""The whole pipeline: plan, run cache, summary, doctor."""
