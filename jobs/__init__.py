"""A command line's classes: settings, what is built of them, checks, and each class from training to result."""
