"""Hand one: from the caller to the stream."""
