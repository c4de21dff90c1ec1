"""What every process needs: settings, logs, traces, health checks, start and stop."""
