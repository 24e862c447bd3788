"""The statistics of canary releases. Pure: no web framework, no store, no clock."""
