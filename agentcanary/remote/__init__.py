"""Versions that run in another Deployment: an ASGI application that hands every request on to a URL."""

from agentcanary.remote.version import RemoteVersion

__all__ = ["RemoteVersion"]
