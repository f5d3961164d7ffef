"""What a public benchmark is: where its pictures and masks lie, its official split, its own figures. No torch here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.listing import GOOD, TEST, TRAIN, Entry, class_folders
from images.reading import list_images

VALIDATION = "validation"  # split of normal pictures that calibrate
AUPRO_05, SEG_F1 = "pixel_aupro_05", "pixel_seg_f1"  # official figures, keys of artifacts.class_results.OFFICIAL
SPRO_05, LOGICAL, STRUCTURAL = "pixel_spro_05", "image_auroc_logical", "image_auroc_structural"
SAMPLES = "sample_auroc"


@dataclass(frozen=True)
class Listed:
    """The pictures of a class.

    Attributes:
        entries: of all splits, in order.
        left_out: pictures that the official split does not use here, by the reason.
        normal_masks: empty masks of good pictures, which nothing needs.
    """

    entries: list[Entry]
    left_out: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    normal_masks: Sequence[Path] = ()


@dataclass(frozen=True)
class Saturation:
    """How much of a defect has to be found: pixels, or a share of its area if relative; see region_metrics."""

    threshold: float
    relative: bool

    def pixels(self, area: int) -> float:
        """Return the pixels of a defect of this area that count as all of it, above 0 and at most its area."""
        return min(self.threshold * area if self.relative else self.threshold, float(area))


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark.

    Attributes:
        title: its name in print.
        classes: finds its classes in a folder; none where the folder is laid out otherwise.
        listed: lists the pictures of a class; raises ValueError or FileNotFoundError where a list is damaged or absent.
        folder: where a class lies, below which `prepare.py check` looks for pictures that nothing reads.
        sign: what some class must hold for a folder to be taken for this benchmark unasked.
        figures: official ones beyond those of every data set.
        any_value: every value of a mask above 0 marks a defect; else 255 does.
        saturations: reads how much of each kind of defect has to be found, by the value that its masks have.
        sample: names the part that a picture shows, where several show the same one.
    """

    title: str
    classes: Callable[[Path], list[str]]
    listed: Callable[[Path, str], Listed]
    folder: Callable[[Path, str], Path] = Path.joinpath
    sign: str = ""
    figures: tuple[str, ...] = ()
    any_value: bool = False
    saturations: Callable[[Path], dict[int, Saturation]] | None = None
    sample: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class Folders:
    """Names of a class's folders. A kind of defect is a folder of the test; its masks lie in a folder of that name.

    Attributes:
        train, validation: of good pictures; validation is None where there is none.
        test: of good and defective pictures.
        masks: of ground truth.
        good: of the test's good pictures.
        several: the masks of x.png are all pictures in the folder x; else one file, x_mask or x of any image type.
        apart: folders of pictures that are left out, and why.
    """

    train: str = f"{TRAIN}/{GOOD}"
    validation: str | None = None
    test: str = TEST
    masks: str = "ground_truth"
    good: str = GOOD
    several: bool = False
    apart: Mapping[str, str] = field(default_factory=dict)

    def classes(self, root: Path) -> list[str]:
        """Return the classes: folders that have all of these folders."""
        wanted = [name for name in (self.train, self.validation, self.test, self.masks) if name]
        found = class_folders(root).items()
        return [name for name, folder in found if all((folder / each).is_dir() for each in wanted)]

    def listed(self, root: Path, classname: str) -> Listed:
        """List the pictures of a class."""
        folder = root / classname
        entries = [Entry(image, 0, None, GOOD, TRAIN) for image in pictures(folder / self.train)]
        if self.validation:
            found = pictures(folder / self.validation)
            entries += [Entry(image, 0, None, GOOD, VALIDATION) for image in found]
        for kind in subfolders(folder / self.test):
            if kind != folder / self.masks:
                entries += self._tested(kind, folder / self.masks / kind.name)
        left_out: dict[str, list[Path]] = {}
        for name, why in self.apart.items():
            left_out.setdefault(why, []).extend(pictures(folder / name))
        return Listed(entries, left_out)

    def _tested(self, kind: Path, masks: Path) -> Iterator[Entry]:
        """List the test pictures in the folder of a kind, with their masks."""
        found = {path.stem: path for path in pictures(masks)}
        for image in pictures(kind):
            if kind.name == self.good:
                yield Entry(image, 0, None, GOOD, TEST)
            elif self.several:
                first, *more = pictures(masks / image.stem) or [None]
                yield Entry(image, 1, first, kind.name, TEST, masks / image.stem, tuple(more))
            else:
                wanted = masks / f"{image.stem}_mask.png"
                mask = found.get(wanted.stem) or found.get(image.stem)
                yield Entry(image, 1, mask, kind.name, TEST, wanted)


def pictures(folder: Path) -> list[Path]:
    """List the images of a folder; none where it does not exist."""
    return list_images(folder) if folder.is_dir() else []


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted; none where it does not exist."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))
