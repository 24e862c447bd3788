"""The demo: a stand-in agent, its load, and four rollouts on an accelerated clock."""
