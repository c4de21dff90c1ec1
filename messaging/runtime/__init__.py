"""What every process needs: settings, logs, traces, health, start and end."""
