"""jobs/checks.py: to be written."""

KEPT_COPIES = 6  # of a class's weights: latest, best, and the state's three; another best before the earlier one goes
PARTIAL_COPIES = 3  # of them in a file that is being written
PICTURE_BYTES = 200_000  # of a test image's strip, whose photograph takes 256 x 256 x 3 at most
ADAM_COPIES = 4  # of a weight in training: itself, its gradient, two moments
OUT_OF_MEMORY = "lower --batch_size or --imagesize, or --target_embed_dimension and --dsc_hidden"
