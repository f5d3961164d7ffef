"""A trained model on new pictures: engines, tiles, overlays and files of scores."""
