"""Background duties: schedules, deadlines, the history, and the work queue's sources."""
