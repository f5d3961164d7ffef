"""The files that a run leaves, each with its reader and writer; layout says where they lie."""
