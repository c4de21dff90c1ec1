"""What runs beside the pods: schedule, deadlines, history, sources."""
