"""Readers of further public benchmarks: a file each says how one lies on disk; a new one is a line in catalogue.py."""
