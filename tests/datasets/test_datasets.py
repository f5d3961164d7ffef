"""Readers list the right files, samples hold the right values, draws repeat, and wrong folders are explained."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from datasets import pixel_cache
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.pixel_cache import OwnPixels, SharedPixels
from datasets.sampler import Draw, EpochSampler
from datasets.visa import VisADataset

TRAIN, TEST = DatasetSplit.TRAIN, DatasetSplit.TEST
TABLES = Path(__file__).resolve().parents[2] / "datasets" / "excel"
SIZE = (50, 60)  # of the pictures


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def noise(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3))


def square(value=255, size=SIZE):
    mask = np.zeros(size)
    mask[10:30, 10:30] = value
    return mask


@pytest.fixture
def mvtec(tmp_path):
    """A class `nut` of 5 training and 5 test images, its masks and foreground masks, and two textures."""
    for i in range(5):
        write(tmp_path / f"nut/train/good/{i:03d}.png", noise(i))
        write(tmp_path / f"fg_mask/nut/{i:03d}.png", square())
    for kind in ("good", "bent", "scratch"):
        for i in range(1 if kind == "good" else 2):
            write(tmp_path / f"nut/test/{kind}/{i:03d}.png", noise(i))
    for kind, suffix in (("bent", "_mask.png"), ("scratch", ".bmp")):
        for i in range(2):
            write(tmp_path / f"nut/ground_truth/{kind}/{i:03d}{suffix}", square())
    write(tmp_path / "dtd/images/woven/a.jpg", noise(7))
    write(tmp_path / "dtd/b.PNG", noise(8))
    return tmp_path


@pytest.fixture
def visa(tmp_path):
    rows = ["object,split,label,image,mask"]
    for i in (2, 0, 1):
        write(tmp_path / f"candle/Data/Images/Normal/{i}.JPG", noise(i))
        rows.append(f"candle,{'train' if i else 'test'},normal,candle/Data/Images/Normal/{i}.JPG,")
    write(tmp_path / "candle/Data/Images/Anomaly/0.JPG", noise(5))
    write(tmp_path / "candle/Data/Masks/Anomaly/0.png", square(1))
    rows.append("candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png")
    rows.append("fryum,test,normal,fryum/0.JPG,")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    write(tmp_path / "dtd/a.jpg", noise(7))
    return tmp_path


def nut(root, split=TRAIN, **options):
    options = {"resize": 32, "imagesize": 32, "fg": 0} | options
    return MVTecDataset(root, root / "dtd", classname="nut", split=split, **options)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k] for k in a)


class Counted(Dataset):
    """Tells how many arrays are kept after each of three reads, in each of two workers."""

    def __init__(self, kept):
        self.kept = kept

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.kept.get(i, lambda: np.zeros(25, np.uint8))
        return len(self.kept.kept)


def test_mvtec_lists_folders_by_name_and_pairs_masks_by_name(mvtec):
    entries = nut(mvtec, TEST).entries
    assert [(e.kind, e.image.name, e.is_anomaly) for e in entries] == [
        ("bent", "000.png", 1), ("bent", "001.png", 1), ("good", "000.png", 0), ("scratch", "000.png", 1),
        ("scratch", "001.png", 1)]  # fmt: skip
    names = [e.mask and e.mask.name for e in entries]
    assert names == ["000_mask.png", "001_mask.png", None, "000.bmp", "001.bmp"]


def test_mvtec_misses_a_mask_by_name_not_by_position(mvtec):
    (mvtec / "nut/ground_truth/bent/000_mask.png").rename(mvtec / "nut/ground_truth/bent/other_mask.png")
    with pytest.raises(FileNotFoundError, match="000_mask.png is missing"):
        nut(mvtec, TEST)


def test_hidden_files_are_no_images(mvtec):
    (mvtec / "nut/train/good/._000.png").write_bytes(b"mac")
    (mvtec / "nut/test/.cache").mkdir()
    assert len(nut(mvtec)) == 5 and len(nut(mvtec, TEST)) == 5


@pytest.mark.parametrize("classname", ["nu", "NUT", "", "..", "fg_mask"])
def test_mvtec_names_the_classes_there_are(mvtec, classname):
    with pytest.raises(ValueError, match=f"no class {re.escape(repr(classname))}: it has nut"):
        MVTecDataset(mvtec, mvtec / "dtd", classname=classname)


def test_mvtec_explains_missing_and_empty_folders(mvtec):
    with pytest.raises(FileNotFoundError, match="check DATA_PATH"):
        nut(mvtec / "nowhere")
    for image in (mvtec / "nut/train/good").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="holds no images"):
        nut(mvtec)


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


def test_test_sample_equals_torchvision(mvtec):
    sample = nut(mvtec, TEST, resize=40)[0]
    image = Image.open(mvtec / "nut/test/bent/000.png")
    steps = [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()]
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(sample["image"], transforms.Compose([*steps, normalise])(image))
    mask = transforms.Compose(steps)(Image.open(mvtec / "nut/ground_truth/bent/000_mask.png"))
    assert torch.equal(sample["mask_gt"], mask)
    assert ((mask > 0) & (mask < 1)).any()  # kept fractional
    assert torch.equal(sample["aug"], torch.tensor([1])) and torch.equal(sample["mask_s"], torch.tensor([1]))
    assert sample["is_anomaly"] == 1 and sample["index"] == 0 and sample["image_path"].endswith("bent/000.png")


def test_visa_masks_of_small_numbers_are_binarised_after_the_resize(visa):
    mask = VisADataset(visa, classname="candle", split=TEST, resize=32, imagesize=32)[0]["mask_gt"]
    reference = transforms.Resize(32)(Image.fromarray(square(1).astype(np.float32)))
    assert torch.equal(mask, (transforms.CenterCrop(32)(transforms.ToTensor()(reference)) > 0).float())
    assert set(mask.unique().tolist()) == {0, 1}


def test_train_sample_has_the_shapes_of_the_contract(mvtec):
    data = nut(mvtec, resize=(40, 56), imagesize=(32, 48))
    assert data.imagesize == (3, 32, 48) and data.grid == (4, 6)
    sample = data[0]
    assert sample["image"].shape == sample["aug"].shape == (3, 32, 48)
    assert sample["mask_s"].shape == (4, 6) and sample["mask_gt"].shape == (1, 32, 48)
    assert all(sample[key].dtype == torch.float32 for key in ("image", "aug", "mask_s", "mask_gt"))
    data.grid = (3, 5)
    assert data[0]["mask_s"].shape == (3, 5)


def test_an_integer_draws_anew_and_repeats_after_numpys_seed(mvtec):
    data = nut(mvtec)
    np.random.seed(0)
    first, second = data[0], data[0]
    assert torch.equal(first["image"], second["image"]) and not torch.equal(first["aug"], second["aug"])
    np.random.seed(0)
    assert same(first, data[0]) and same(second, data[0])


def test_a_draw_decides_everything(mvtec):
    data = nut(mvtec, brightness_factor=0.5)
    assert same(data[Draw(1, 42)], data[Draw(1, 42)])
    assert not torch.equal(data[Draw(1, 42)]["image"], data[Draw(1, 43)]["image"])


def test_the_centre_pass_makes_no_defects(mvtec):
    sample = nut(mvtec)[Draw(0, 1, synthesise=False)]
    assert torch.equal(sample["aug"], torch.tensor([1])) and torch.equal(sample["mask_s"], torch.tensor([1]))


def test_random_transforms_leave_test_images_and_masks_alone(mvtec):
    options = {"h_flip_p": 1, "rotate_degrees": 20, "contrast_factor": 0.5}
    assert same(nut(mvtec, TEST)[0], nut(mvtec, TEST, **options)[0])
    flipped = nut(mvtec, h_flip_p=1)[0]["image"]
    assert torch.equal(flipped, nut(mvtec)[0]["image"].flip(2))


def test_without_rand_aug_textures_take_the_image_transform(mvtec):
    """On a black image only the white half of a texture shows; flipped, it is the other half."""
    half = np.zeros((32, 32, 3))
    half[:, :16] = 255
    for path in (mvtec / "dtd").rglob("*.*"):
        path.unlink()
    write(mvtec / "dtd/half.png", half)
    write(mvtec / "nut/train/good/000.png", np.zeros((32, 32, 3)))
    on = defects(nut(mvtec, rand_aug=0, h_flip_p=1), draws=20, index=0)
    assert on[..., 16:].any() and not on[..., :16].any()


@pytest.mark.parametrize(
    ("classname", "distribution", "expected"),
    [("wood", 0, 329), ("toothbrush", 3, 329), ("wood", 1, (300, 300)), ("nut", 1, (300, 300)), ("nut", 0, 300)],
)
def test_resize_rules_of_training_images(mvtec, classname, distribution, expected):
    if classname != "nut":
        (mvtec / "nut").rename(mvtec / classname)
    data = MVTecDataset(mvtec, mvtec / "dtd", classname=classname, resize=300, distribution=distribution)
    assert data.resize == expected
    test = MVTecDataset(mvtec, classname=classname, resize=300, distribution=distribution, split=TEST)
    assert test.resize == (300 if distribution == 1 else expected)


def test_wood_ignores_resize(mvtec):
    (mvtec / "nut").rename(mvtec / "wood")
    assert MVTecDataset(mvtec, classname="wood", resize=64, imagesize=96, split=TEST).resize == 110


def test_imagesize_above_resize_is_refused(mvtec):
    with pytest.raises(ValueError, match="--imagesize 40 is above --resize 32"):
        nut(mvtec, imagesize=40)


def letterboxed(root, size=(30, 60), **options):
    """Return the nuts, all of one size, letterboxed to 32 x 32: (30, 60) fills 16 rows."""
    for i in range(5):
        write(root / f"nut/train/good/{i:03d}.png", noise(i, size))
    return nut(root, resize_mode="letterbox", **options)


def test_defects_stay_off_the_padding(mvtec):
    data = letterboxed(mvtec)
    data.grid = (32, 32)
    valid = data[0]["valid"]
    assert valid.dtype == torch.bool and valid.sum() == 16 * 32 and valid[8:24].all()
    on = defects(data)
    assert on[:, valid].any() and not on[:, ~valid].any()
    for i in range(5):
        write(mvtec / f"fg_mask/nut/{i:03d}.png", square(size=(30, 60)))
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[12:24, 4:17] = True  # the square and the soft rim that the resize gives it
    assert not defects(nut(mvtec, resize_mode="letterbox", fg=1))[:, ~inside].any()


def test_only_letterboxed_samples_tell_their_padding(mvtec):
    for mode in ("crop", "stretch"):
        data = nut(mvtec, resize_mode=mode)
        assert "valid" not in data[0] and data[0]["image"].shape == (3, 32, 32)
    wide = letterboxed(mvtec, imagesize=(20, 32))
    assert wide[0]["valid"].sum() == 16 * 32 and wide[0]["image"].shape == (3, 20, 32)


def test_wood_is_enlarged_for_the_crop_alone(mvtec):
    (mvtec / "nut").rename(mvtec / "wood")
    data = MVTecDataset(mvtec, classname="wood", imagesize=96, split=TEST, resize_mode="stretch")
    assert data.resize is None and data[0]["image"].shape == (3, 96, 96)


def test_check_tells_the_share_that_the_crop_cuts_away(mvtec):
    data = nut(mvtec)
    data.check(2)
    assert data.cut == pytest.approx(1 - 32 / 38)  # 50 x 60 becomes 32 x 38
    boxed = nut(mvtec, resize_mode="letterbox")
    boxed.check(2)
    assert boxed.cut == 0


def test_textures_cover_the_picture_where_images_are_padded(mvtec):
    """A texture with a frame shows it under the padding of none: it is cropped, not letterboxed."""
    data = letterboxed(mvtec)
    for index in range(2):
        pixels = data.textures.read(index)
        assert pixels.shape == data.textures.shape(index) == (32, 38, 3)
        assert data.textures.crop(pixels).shape == (32, 32, 3)


def defects(data, draws=15, index=None):
    """Return where the defects of some draws lie, bool [draws, H, W]; of one image, or of all in turn."""
    samples = [data[i % len(data) if index is None else index] for i in range(draws)]
    return torch.stack([(sample["aug"] - sample["image"]).abs().amax(0) > 1e-4 for sample in samples])


def test_defects_stay_on_the_foreground(mvtec):
    on = defects(nut(mvtec, resize=SIZE, imagesize=SIZE, fg=1))
    inside = torch.from_numpy(square() > 0)
    assert on[:, inside].any() and not on[:, ~inside].any()
    assert defects(nut(mvtec, resize=SIZE, imagesize=SIZE, fg=0))[:, ~inside].any()


def test_foreground_masks_may_be_of_another_image_type_and_above_zero_counts(mvtec):
    for i in range(5):
        (mvtec / f"fg_mask/nut/{i:03d}.png").unlink()
        write(mvtec / f"fg_mask/nut/{i:03d}.bmp", np.dstack([square(3), np.zeros(SIZE), np.zeros(SIZE)]))
    on = defects(nut(mvtec, resize=SIZE, imagesize=SIZE, fg=1))
    assert on.any() and not on[:, torch.from_numpy(square() == 0)].any()


@pytest.mark.parametrize(("flag", "expected"), [(0, False), (1, True), (None, True)])
def test_foreground_by_table(mvtec, tmp_path, flag, expected):
    if flag is not None:
        row = {"Class": ["mvtec_nut"], "Distribution": [1 - flag], "Foreground": [flag]}
        (tmp_path / "judge").mkdir()
        pd.DataFrame(row).to_excel(tmp_path / "judge" / "mvtec_distribution.xlsx", index=False)
    assert nut(mvtec, fg=2, judge_path=tmp_path / "judge").foreground is expected


def test_a_missing_foreground_mask_is_named_with_the_way_out(mvtec):
    (mvtec / "fg_mask/nut/003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"fg_mask/nut/003.png is missing: .*prepare.py fgmask.*--fg 0\.$"):
        nut(mvtec, fg=1)[3]
    with pytest.raises(FileNotFoundError, match="003.png is missing"):
        nut(mvtec, fg=1).check(2)
    nut(mvtec, fg=0).check(2)


def test_an_empty_foreground_mask_is_named(mvtec):
    write(mvtec / "fg_mask/nut/002.png", np.zeros(SIZE))
    with pytest.raises(ValueError, match="002.png has no foreground"):
        nut(mvtec, fg=1)[2]
    with pytest.raises(ValueError, match="002.png has no foreground"):
        nut(mvtec, fg=1).check(2)


def test_the_class_name_elsewhere_in_the_path_does_not_matter(mvtec):
    deep = mvtec / "nut_of_nut"
    for name in ("nut", "fg_mask", "dtd"):
        deep.mkdir(exist_ok=True)
        (mvtec / name).rename(deep / name)
    assert defects(nut(deep, fg=1)).any()


def test_check_passes_a_sound_class(mvtec, visa):
    nut(mvtec, fg=1).check(2)
    nut(mvtec, TEST).check(2)
    VisADataset(visa, classname="candle", split=TEST).check(2)


def test_check_finds_masks_of_another_size(mvtec):
    write(mvtec / "nut/ground_truth/bent/001_mask.png", square(size=(60, 50)))
    with pytest.raises(ValueError, match=r"001_mask.png is \(50, 60\), its image \(60, 50\)"):
        nut(mvtec, TEST).check(2)


def test_check_finds_damaged_images_and_textures(mvtec):
    (mvtec / "dtd/b.PNG").write_bytes(b"no image")
    with pytest.raises(ValueError, match="b.PNG cannot be read"):
        nut(mvtec).check(2)
    path = mvtec / "nut/train/good/004.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="004.png cannot be read"):
        nut(mvtec).check(2)


def test_textures_are_found_at_any_depth_and_needed_for_training_only(mvtec):
    assert len(nut(mvtec).textures) == 2
    MVTecDataset(mvtec, None, classname="nut", split=TEST)
    MVTecDataset(mvtec, mvtec / "nowhere", classname="nut", split=TEST)
    MVTecDataset(mvtec, None, classname="nut", distribution=1)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        MVTecDataset(mvtec, mvtec / "nowhere", classname="nut")
    (mvtec / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        MVTecDataset(mvtec, mvtec / "empty", classname="nut")


def test_broken_textures_are_left_out_on_request(mvtec, caplog):
    (mvtec / "dtd/b.PNG").write_bytes(b"no image")
    data = nut(mvtec, skip_broken=True)
    data.check(2)
    assert len(data.textures) == 1 and "1 of 2 textures cannot be read" in caplog.text
    with data.kept_pixels():
        assert defects(data).any()


def test_without_a_folder_textures_are_drawn(mvtec):
    data = MVTecDataset(mvtec, None, classname="nut", resize=40, imagesize=(32, 36), fg=0)
    assert len(data.textures) >= 1000
    fresh = epochs(data)
    assert not torch.equal(fresh[3]["aug"], fresh[3]["image"])
    with data.kept_pixels():
        assert all_same(fresh, epochs(data, workers=2))
        drawn = data.pixels.written[2 * len(data) :]
        assert 0 < drawn.sum() <= 10  # two epochs of five images


@pytest.mark.parametrize("wrong", [{"distribution": 5}, {"fg": 3}, {"downsampling": 64}])
def test_options_out_of_range_are_refused(mvtec, wrong):
    with pytest.raises(ValueError, match="--"):
        nut(mvtec, **wrong)


def test_check_finds_foreground_masks_of_another_aspect(mvtec):
    half = square(size=(25, 30))  # as the image, at half its size
    write(mvtec / "fg_mask/nut/001.png", half)
    write(mvtec / "fg_mask/nut/002.png", square(size=(33, 39)))  # 39.6 rounded down
    nut(mvtec, fg=1).check(2)
    write(mvtec / "fg_mask/nut/001.png", half.T)
    with pytest.raises(ValueError, match=r"fg_mask/nut/001.png is \(25, 30\), its image \(60, 50\)"):
        nut(mvtec, fg=1).check(2)
    nut(mvtec, fg=0).check(2)


def test_check_warns_once_of_masks_whose_values_never_count(mvtec, visa, caplog):
    nut(mvtec, TEST).check(2)
    VisADataset(visa, classname="candle", split=TEST).check(2)  # its masks are labels
    assert not caplog.records
    for i in range(2):
        write(mvtec / f"nut/ground_truth/bent/{i:03d}_mask.png", square(1 + 253 * i))
    write(mvtec / "nut/ground_truth/scratch/000.bmp", square(0))  # no defect at all
    nut(mvtec, TEST).check(2)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(r"mvtec_nut: 2 masks have no pixel of 255, e\.g\. .*bent/000_mask\.png: as", record.getMessage())


def test_epochs_hold_every_image_once_and_end_with_a_partial_batch():
    sampler = EpochSampler(11, 4, seed=0, name="mvtec_nut")
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3 and [len(batch) for batch in batches] == [4, 4, 3]
    draws = [draw for batch in batches for draw in batch]
    assert sorted(draw.index for draw in draws) == list(range(11))
    assert len({draw.seed for draw in draws}) == 11 and all(draw.synthesise for draw in draws)


def test_epochs_repeat_and_depend_on_seed_class_epoch_and_purpose():
    def batches(seed=0, name="mvtec_nut", epoch=0, purpose="train"):
        sampler = EpochSampler(50, 8, seed, name)
        sampler.set_epoch(epoch, purpose)
        return list(sampler)

    assert batches() == batches()
    variants = [batches(), batches(seed=1), batches(name="mvtec_a"), batches(epoch=1), batches(purpose="center")]
    seeds = [draw.seed for variant in variants for batch in variant for draw in batch]
    assert len(set(seeds)) == 5 * 50
    orders = {tuple(draw.index for batch in variant for draw in batch) for variant in variants}
    assert len(orders) == 5
    with pytest.raises(ValueError, match="Purpose 'test'"):
        batches(purpose="test")


def test_last_batch_is_that_of_the_centre_pass():
    sampler = EpochSampler(11, 4, seed=3, name="mvtec_nut")
    sampler.set_epoch(6, "center")
    last = list(sampler)[-1]
    sampler.set_epoch(6, "train")
    assert sampler.last_batch(6) == [draw.index for draw in last] and not any(draw.synthesise for draw in last)
    assert len(EpochSampler(8, 4, 0, "a").last_batch(0)) == 4


def epochs(data, workers=0, context=None):
    """Return every batch of a pass for the centre and two epochs of training."""
    sampler = EpochSampler(len(data), 2, seed=0, name="mvtec_nut")
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
                        multiprocessing_context=context)  # fmt: skip
    batches = []
    for epoch, purpose in ((0, "center"), (0, "train"), (1, "train")):
        sampler.set_epoch(epoch, purpose)
        batches += list(loader)
    return batches


def all_same(a, b):
    return len(a) == len(b) == 9 and all(map(same, a, b))


def test_workers_change_nothing(mvtec):
    data = nut(mvtec, fg=1, brightness_factor=0.3)
    assert all_same(epochs(data), epochs(data, workers=2))


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_kept_pixels_change_nothing_and_are_shared_by_all_processes(mvtec, workers, context):
    data = nut(mvtec, fg=1, brightness_factor=0.3)
    fresh = epochs(data)
    with data.kept_pixels():
        assert isinstance(data.pixels, SharedPixels) and not data.pixels.written.any()
        assert all_same(fresh, epochs(data, workers, context))
        assert data.pixels.written.all()  # seen from this process: images, foreground masks and textures
        for folder in ("dtd", "nut/train"):
            shutil.rmtree(mvtec / folder)
        assert all_same(fresh, epochs(data))  # nothing is decoded any more
    with pytest.raises(FileNotFoundError):
        data[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_without_room_in_shared_memory_each_process_keeps_its_own(mvtec, monkeypatch, caplog, workers):
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(pixel_cache, "SHARED_MEMORY", mvtec)
    data = nut(mvtec, fg=1)
    fresh = epochs(data)
    with caplog.at_level("INFO"), data.kept_pixels():
        assert isinstance(data.pixels, OwnPixels) and all_same(fresh, epochs(data, workers))
        assert len(data.pixels.kept) == (0 if workers else 12)
    (line,) = caplog.messages
    assert line.startswith("mvtec_nut: decoded pixels are kept in each process apart") and "0.00 GB free" in line


def test_only_what_fits_into_the_budget_is_kept(mvtec, monkeypatch):
    data = nut(mvtec)
    fresh = epochs(data)
    one = 32 * 38 * 3  # bytes of an image
    monkeypatch.setattr(pixel_cache, "CACHE_BYTES", 3 * one + 1)
    with data.kept_pixels():
        assert len(data.pixels.written) == 3 and all_same(fresh, epochs(data))
    own = OwnPixels(3 * one + 1)
    data.pixels = own
    assert all_same(fresh, epochs(data)) and len(own.kept) == 3


def test_room_for_nothing_is_no_error(mvtec, monkeypatch):
    monkeypatch.setattr(pixel_cache, "CACHE_BYTES", 0)
    data = nut(mvtec)
    with data.kept_pixels():
        assert all_same(epochs(data), epochs(data))


def test_pixels_of_another_shape_than_their_slot_are_not_kept():
    shared = SharedPixels([(2, 3)], 100)
    for value in (1, 2):
        assert (shared.get(0, lambda: np.full((3, 2), value, np.uint8)) == value).all()  # noqa: B023
    with pytest.raises(ValueError, match="read-only"):
        shared.get(0, lambda: np.zeros((2, 3), np.uint8))[:] = 1


def test_workers_divide_the_room_of_each_process_apart():
    loader = DataLoader(Counted(OwnPixels(100)), batch_size=None, num_workers=2)
    assert list(loader) == [1, 1, 2, 2, 2, 2]  # arrays of 25 bytes: two fit into half of the room


@pytest.mark.parametrize(("name", "count", "hyperspheres"), [
    ("mvtec", 15, "bottle cable pill screw transistor"),
    ("visa", 12, "cashew fryum pcb1 pcb2 pcb4 pipe_fryum"),
    ("mpdd", 6, ""),
    ("wfdd", 4, ""),
])  # fmt: skip
def test_tables_hold_the_release_values(name, count, hyperspheres):
    table = pd.read_excel(TABLES / f"{name}_distribution.xlsx")
    assert list(table.columns) == ["Class", "Distribution", "Foreground"] and len(table) == count
    assert table.Class[table.Distribution == 1].tolist() == [f"{name}_{each}" for each in hyperspheres.split()]
    assert (table.Distribution == table.Foreground).all()
