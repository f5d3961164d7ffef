"""The options of main.py's three commands, a module a command; artifacts/options.py is their door."""
