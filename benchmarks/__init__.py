"""What was measured, and how: the reference implementation, timings, other programs, and the page of results."""
