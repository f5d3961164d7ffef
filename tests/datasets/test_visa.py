"""VisA is read by its list, and a damaged one is named."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from datasets.visa import VisADataset
from tests.helpers.data_sets import TEST, TRAIN, square


def test_visa_lists_anomalies_first_in_the_order_of_the_list(visa):
    test = VisADataset(visa, classname="candle", split=TEST)
    assert [(e.image.parent.name, e.image.name) for e in test.entries] == [("Anomaly", "0.JPG"), ("Normal", "0.JPG")]
    train = VisADataset(visa, visa / "dtd", classname="candle", split=TRAIN)
    assert [e.image.name for e in train.entries] == ["2.JPG", "1.JPG"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (b'candle,train,normal,"' + b"x" * 200_000, "cannot be read as a table .field larger"),
        (b"candle,\xff", "cannot be read as a table .*codec"),
        (b"candle,train,normal", "too few columns in row"),
    ],
)
def test_visa_names_a_damaged_list(visa, end, words):
    path = visa / "split_csv" / "1cls.csv"
    path.write_bytes(path.read_bytes() + b"\n" + end)
    with pytest.raises(ValueError, match=f"1cls.csv {words}|1cls.csv has {words}"):
        VisADataset(visa, classname="candle", split=TEST)


def test_visa_explains_what_is_missing(visa):
    with pytest.raises(ValueError, match="no class 'cashew': it has candle, fryum"):
        VisADataset(visa, classname="cashew", split=TEST)
    with pytest.raises(ValueError, match="lists no train images of fryum"):
        VisADataset(visa, visa / "dtd", classname="fryum", split=TRAIN)
    (visa / "candle/Data/Masks/Anomaly/0.png").unlink()
    with pytest.raises(FileNotFoundError, match="0.png is missing"):
        VisADataset(visa, classname="candle", split=TEST)
    (visa / "split_csv/1cls.csv").write_text("object,split,label,image\n")
    with pytest.raises(ValueError, match="lacks the column mask"):
        VisADataset(visa, classname="candle", split=TEST)
    (visa / "split_csv/1cls.csv").unlink()
    with pytest.raises(FileNotFoundError, match="1cls.csv does not exist"):
        VisADataset(visa, classname="candle", split=TEST)


@pytest.mark.parametrize(("good", "bad"), [("OK", "NG"), ("0", "1")])
def test_other_labels_are_asked_about_and_options_say_what_they_mean(visa, good, bad):
    path = visa / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace(",normal,", f",{good},").replace(",anomaly,", f",{bad},"))
    named = "--normal_dir OK and --defect_dir NG" if good == "OK" else "--normal_dir LABEL and --defect_dir LABEL"
    for split in (TRAIN, TEST):
        with pytest.raises(ValueError, match=rf"candle has images labelled .*{good} \(3\).*: say by {named} which"):
            VisADataset(visa, visa / "dtd", classname="candle", split=split)
    test = VisADataset(visa, classname="candle", split=TEST, normal_dir=[good], defect_dir=[bad])
    assert [entry.is_anomaly for entry in test.entries] == [1, 0]


def test_a_label_good_is_good_as_a_folder_is(visa):
    path = visa / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace(",normal,", ",good,"))
    assert len(VisADataset(visa, visa / "dtd", classname="candle", split=TRAIN)) == 2


def test_visa_masks_of_small_numbers_are_binarised_after_the_resize(visa):
    mask = VisADataset(visa, classname="candle", split=TEST, resize=32, imagesize=32)[0]["mask_gt"]
    reference = transforms.Resize(32)(Image.fromarray(square(1).astype(np.float32)))
    assert torch.equal(mask, (transforms.CenterCrop(32)(transforms.ToTensor()(reference)) > 0).float())
    assert set(mask.unique().tolist()) == {0, 1}
