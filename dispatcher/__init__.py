"""Hand two: from the stream to the provider."""
