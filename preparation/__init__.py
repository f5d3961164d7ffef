"""Data before any training: what is wrong with them, and what can be made for them. No torch."""
