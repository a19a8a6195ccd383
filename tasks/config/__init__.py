"""From YAML and overrides to objects."""
