"""What a process says of itself: log lines, metrics and traces, none of which tells anything about a person."""
