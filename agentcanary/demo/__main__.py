"""``python -m agentcanary.demo``: the same as ``agentcanary demo``."""

import sys

from agentcanary.demo.run import run

if __name__ == "__main__":
    sys.exit(run(json_output="--json" in sys.argv[1:]))
