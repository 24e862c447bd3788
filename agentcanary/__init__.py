"""Canary releases for AI agents, inside the agent's own Python process."""
