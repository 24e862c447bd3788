"""The store: rollouts, pins, conversations, outcomes, counts."""
