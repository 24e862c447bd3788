"""What is known of a rollout at one moment, as plain values: the command line, the API and the pages show the same.

``reading.situation`` reads it from a store, ``status_data.status_data`` makes plain values of it.
"""
