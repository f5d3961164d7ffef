"""MVTec AD 2 (Heckler-Kram et al., arXiv 2503.21622): validation pictures calibrate, private tests have no masks."""

from datasets.readers.benchmark import AUPRO_05, SEG_F1, Benchmark, Folders

PRIVATE = ("test_private", "test_private_mixed")
PICTURES = {  # of each private test set
    "can": 321, "fabric": 314, "fruit_jelly": 255, "rice": 277, "sheet_metal": 142, "vial": 276, "wallplugs": 232,
    "walnuts": 228,
}  # fmt: skip
FOLDERS = Folders(
    validation="validation/good",
    test="test_public",
    masks="test_public/ground_truth",
    apart=dict.fromkeys(PRIVATE, "pictures of the private tests are for `prepare.py submission` alone"),
)
MVTEC2 = Benchmark("MVTec AD 2", FOLDERS.classes, FOLDERS.listed, figures=(AUPRO_05, SEG_F1))
