"""The dispatcher: takes messages from the stream and sends them to the providers."""
