"""What a transition causes outside."""
