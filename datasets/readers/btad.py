"""BTAD, beanTech (Mishra et al., ISIE 2021): classes 01, 02 and 03, pictures and masks bmp or png."""

from datasets.readers.benchmark import Benchmark, Folders

FOLDERS = Folders(train="train/ok", good="ok")
BTAD = Benchmark("BTAD", FOLDERS.classes, FOLDERS.listed, sign="test/ko")
