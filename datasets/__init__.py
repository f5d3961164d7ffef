"""Data sets: readers that list a class's images, and the samples made of them.

A new data set is a listing in listing.py, a reader like mvtec.py, and its name in jobs/assembly.py's READERS and in
artifacts/commands/choices.py; a public benchmark in a fixed layout is a file in readers/. What this room may import
stands in tests/test_arrows.py.
"""
