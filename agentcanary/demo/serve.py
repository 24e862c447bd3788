"""The process that serves the demo's agent: uvicorn with two workers. ``python -m agentcanary.demo.serve PORT``."""

from __future__ import annotations

import sys

from agentcanary.demo import leash

WORKERS = 2


def main() -> None:
    """Serve until told to stop, or until the demo is gone."""
    import uvicorn

    leash.hold()
    uvicorn.run(
        "agentcanary.demo.agent:create_app",
        factory=True,
        workers=WORKERS,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
