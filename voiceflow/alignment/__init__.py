"""Speech and its transcript brought together: words and phones in time."""
