"""Data sets: readers that list a class's images, and the samples made of them."""
