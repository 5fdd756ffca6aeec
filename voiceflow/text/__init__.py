"""Text to phones: spelling, pronunciations, phone symbols."""
