"""The configuration: presets, params.yaml and the schema, composed into one checked file per stage."""
