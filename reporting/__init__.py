"""Finished results, shown: the page, the tables, the comparison with the paper. Nothing here needs PyTorch."""
