"""The gateway: accepts messages over gRPC and writes them to the stream."""
