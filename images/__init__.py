"""Pictures as arrays: files to pixels, pixels to a network's size and back, and what is drawn of them. No torch."""
