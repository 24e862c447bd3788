"""Finding the conversation id of a request."""
