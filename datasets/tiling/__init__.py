"""Tiles and the region of interest in a data set: what each sample shows, and whole pictures again."""
