"""Pictures as arrays: files to pixels, pixels to the size of a network and back, and what is drawn of them. No torch."""
