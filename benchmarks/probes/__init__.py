"""What features allow, and where scores come from, apart from any training."""
