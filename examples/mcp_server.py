"""An MCP server whose tool has two versions. The server makes the session; ``isError`` makes a turn an error.

Run ``python examples/mcp_server.py`` and give http://localhost:8000/mcp to any MCP client that keeps sessions
(revisions up to 2025-11-25; later ones have none: let those clients send ``x-conversation-id`` and add that place).
"""

from __future__ import annotations

import uvicorn
from mcp.server.mcpserver import MCPServer

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config

CONFIG = """
agent: tools
stable: tools-v1
canary: tools-v2
conversation: {preset: mcp}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {pinned: {manual: switch}}
"""

canary = Canary(parse_config(CONFIG))
server = MCPServer("tools")


@server.tool()
def lookup(order: str) -> str:
    """Where an order is, as the version of the session looks it up."""
    if not order:
        raise ValueError("which order?")
    return f"{order} is on its way, says {current_version()}"


app = CanaryMiddleware(server.streamable_http_app(), canary=canary)

if __name__ == "__main__":
    uvicorn.run(app, port=8000)
