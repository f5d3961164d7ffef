"""Whether pictures still look like those of the training."""
