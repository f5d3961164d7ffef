"""The options of a run, each typed once: name, default, help, what it shapes, and the paper's value.

main.py makes click's parameters of these fields, and runs keep their values in state.pth, run.json and result.json.
Whoever wants a list of options reads it off the fields: see names and paper_values.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from artifacts.layout import seed_folder
from images.geometry import CROP, LETTERBOX, MODES, Geometry, pair
from system.parameters import Number, Seed, Seeds, Size, Span

MODEL = "model"  # goes to GLASS.load
READER = "reader"  # goes to the reader of the images
TRAINING = "training"  # what is trained depends on it, so a run goes on only with the same value
VAL_SPLIT = "val split"  # decides which test images epochs are chosen on
COMPARED = "compared"  # runs that differ in it are told apart in tables of many runs
LATER = "later"  # earlier versions lacked it: a run that does not record it had the default
LOOK = "look"  # of synthetic defects: a model that grows may learn from others

AUTO, DEVICE, HOST, OFF = PLACES = ("auto", "device", "host", "off")  # --cache
BEST, LAST, VAL, SYNTHETIC = RULES = ("best", "last", "val", "synthetic")  # --select
PRECISIONS = ("fp32", "tf32", "bf16")
CONSTANT, COSINE = SCHEDULES = ("constant", "cosine")
XAVIER, WHITENED = STARTS = ("xavier", "whitened")  # --dsc_init
ADAMW, MUON = OPTIMIZERS = ("adamw", "muon")  # --dsc_optimizer
FOCAL, BCE = LOCAL_LOSSES = ("focal", "bce")  # --local_loss
MIXED = "mixed"  # --mask_mode
MASK_MODES = (MIXED, "one", "union", "intersection")
MANIFOLD_RADII = (0.5, 1.0)  # paper: 1 and 2; the noise alone has length 0.59, so this projection hardly ever acts
TENSORBOARD, MLFLOW, WANDB = TRACKERS = ("tensorboard", "mlflow", "wandb")  # --tracker
PAPER, QUICK = "paper", "quick"  # --recipe
RECIPES: dict[str, dict[str, Any]] = {  # what each sets, unless the command line does
    PAPER: {},
    QUICK: {"lr": 0.001, "schedule": COSINE, "warmup": 20, "ema_decay": 0.98, "iterations": 320, "select": LAST},
}
IMAGENET, OWN_NORMALISATION = NORMALISATIONS = ("imagenet", "model")  # --normalise
OWN_RECIPE = PAPER  # of one's own pictures
OWN = "folder"  # NAME of one's own pictures
PAPERS = ("mvtec", "visa", "mpdd", "wfdd")  # NAME of the benchmarks that the paper has figures for
FURTHER = ("mvtec2", "realiad", "loco", "autovi", "btad", "ksdd2", "dagm")  # of others, see datasets.readers
VALIDATED = ("mvtec2", "loco")  # of those that come with normal pictures for the threshold
NUMBERED = ("visa", "loco", "autovi")  # whose masks mark defects by any value above 0
HYPERSPHERE = 3  # --distribution
GOOD = "good"  # the folder of normal images
ASK, MASK, IGNORE, PICTURE = SIDECARS = ("ask", "mask", "ignore", "picture")  # --sidecars
NO_TEXTURES = "none"  # for AUG_PATH
RESIZE = 288  # where there is a crop
LEAST_CELL = 1 / 128  # of the noise that shapes synthetic defects, as a share of the picture's side
IGNORED = "Accepted for old command lines; has no effect."
UNKNOWN = object()  # there is no value of the paper's


def option(
    default: Any,
    help: str,
    *flags: str,
    shapes: tuple[str, ...] = (),
    paper: Any = UNKNOWN,
    own: Any = None,
    compared: bool = False,
    recorded: str = "",
    reader: str = "",
    off: str = "",
    **parameter: Any,
) -> Any:
    """Return a field that is an option of the command line.

    Args:
        default: of the option, for benchmark data.
        help: what it does.
        flags: short forms of its name.
        shapes: what it decides, of MODEL, READER, TRAINING, VAL_SPLIT.
        paper: the value that the published figures were made with.
        own: the default for one's own pictures, if another.
        compared: whether tables of many runs tell them apart by it.
        recorded: its name among a run's settings, if another.
        reader: its name as an argument of the readers, if another.
        off: the name that turns a flag off which may be on by default.
        parameter: further arguments for click.option.
    """
    shapes += (COMPARED,) * compared
    if own is not None:
        shown = f"{default}; {own} for {OWN}" if own != default else f"{default}"
        parameter = {"default": None, "show_default": shown, **parameter}
    described = {"help": help, "flags": flags, "shapes": shapes, "paper": paper, "own": own, "parameter": parameter}
    return field(default=default, metadata=described | {"recorded": recorded, "reader": reader, "off": off})


def argument(default: Any, **parameter: Any) -> Any:
    """Return a field that is an argument of the command line."""
    return field(default=default, metadata={"argument": True, "parameter": parameter})


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as a command line would have them, without the dashes: "lr 0.001, schedule cosine"."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


network = partial(option, shapes=(MODEL, TRAINING))
trained = partial(option, shapes=(TRAINING,))
sample = partial(option, shapes=(READER, TRAINING))
framed = partial(option, None, shapes=(READER, TRAINING, LATER))
look = partial(option, shapes=(READER, TRAINING, LATER, LOOK))
made_elsewhere = partial(option, shapes=(TRAINING, LATER, LOOK))  # what the reader is not told of
random_transform = partial(option, 0, shapes=(READER, TRAINING), paper=0)


@dataclass(frozen=True)
class RunOptions:
    """Options of the command group: where results go, on which device, and which epoch counts."""

    results_path: Path = option(
        Path("results"), "Folder for everything that a run writes.", type=click.Path(path_type=Path)
    )
    models_path: Path | None = option(
        None, "Results folder to read trained models from, if it is another one.", type=click.Path(path_type=Path)
    )
    gpu: tuple[int, ...] = option(
        (),
        "CUDA device; -1 is the CPU, which is also used where there is no GPU. Repeat it to share the classes among "
        "several devices, one process each. Under torchrun and srun each process takes the device of its local rank.",
        multiple=True,
        type=int,
        show_default="0",
    )
    shard: str | None = option(
        None,
        "Do only every N-th class, beginning with class I (0 to N - 1). Other runs do the other shards.",
        metavar="I/N",
    )
    seed: int = option(
        0,
        "Seed of the initial weights and of every random draw.",
        shapes=(TRAINING, VAL_SPLIT),
        compared=True,
        type=Seed(),
    )
    seeds: tuple[int, ...] = option(
        (),
        "Train each class with each of these seeds instead of --seed, each seed in a results folder of its own: "
        "RESULTS/seed_0, RESULTS/seed_1, ... The tables at the end have mean and standard deviation.",
        type=Seeds(),
        metavar="N,N,...",
        show_default="-",
    )
    test: str = option(
        "ckpt", "ckpt: train, then test. test: only test what is trained.", type=click.Choice(["ckpt", "test"])
    )
    select: str = option(
        BEST,
        "Which epoch to keep. best: highest image + pixel AUROC on the test set, as released. val: the same on a share "
        "of the test set, which the test then leaves out. synthetic: the same on held-out normal images with synthetic "
        "defects. last: the last epoch.",
        shapes=(TRAINING, VAL_SPLIT),
        compared=True,
        paper=BEST,
        type=click.Choice(RULES),
    )
    val_share: float | None = option(
        None,
        "Share to choose the epoch on: of the test set for val (default 0.5), of the training images for synthetic "
        "(default 0.1).",
        shapes=(TRAINING, VAL_SPLIT),
        type=Number(0, 1, min_open=True, max_open=True),
    )
    patience: int = option(
        0,
        "Stop after this many evaluations without improvement; 0: never.",
        shapes=(TRAINING,),
        paper=0,
        type=click.IntRange(0),
    )
    false_alarm_rate: float = option(
        0.01,
        "Share of normal images that may score above the threshold.",
        type=Number(0, 1, min_open=True, max_open=True),
    )
    fresh: bool = option(
        False,
        "Train again what is already trained. Earlier runs move to models/backbone_0/old.",
        is_flag=True,
    )
    grow: int = option(
        0,
        "Go on from the trained weights with the pictures of now, for this many iterations. The grown model lies in "
        "the folder grown of --results_path until --accept; 0: do not.",
        type=click.IntRange(0),
    )
    accept: bool = option(
        False,
        "Put what --grow has made in place of the earlier model, which moves to models/backbone_0/old.",
        is_flag=True,
    )
    tracker: str = option(
        TENSORBOARD,
        "Where the curves of a training go. mlflow and wandb are packages to install.",
        type=click.Choice(TRACKERS),
    )
    deterministic: bool = option(False, "Make runs on CUDA repeatable to the bit. Slower.", is_flag=True)
    log_group: str = option("group", IGNORED)
    log_project: str = option("project", IGNORED)
    run_name: str = option("test", IGNORED)

    def __post_init__(self) -> None:
        if self.fresh and not self.train:
            raise ValueError("--fresh trains anew, --test test does not train: leave one out.")
        if self.seeds and (self.grow or self.accept):
            raise ValueError("--grow and --accept are for one training: give --seed and not --seeds.")
        if self.grow and (self.accept or not self.train or self.models_path is not None):
            raise ValueError("--grow trains in --results_path: leave out --accept, --test test and --models_path.")
        if self.accept and (self.fresh or not self.train or self.models_path is not None):
            raise ValueError("--accept takes what --grow has made: leave out --fresh, --test test and --models_path.")

    def of_seed(self, seed: int) -> "RunOptions":
        """Return the options of one of the seeds."""
        models = None if self.models_path is None else seed_folder(self.models_path, seed)
        return replace(self, seed=seed, seeds=(), results_path=seed_folder(self.results_path, seed), models_path=models)

    @property
    def train(self) -> bool:
        """Whether what is not trained yet is trained; else there are only tests."""
        return self.test == "ckpt"


@dataclass(frozen=True)
class NetOptions:
    """Options of the command `net`: the networks and how they are trained."""

    backbone_names: tuple[str, ...] = option(
        ("wideresnet50",),
        "Backbone of docs/backbones.md, or timm:NAME for any of timm's. NAME.seed-K seeds its training with K. Can be "
        "repeated.",
        "-b",
        compared=True,
        paper="wideresnet50",
        recorded="backbone",
        multiple=True,
    )
    layers_to_extract_from: tuple[str, ...] = trained(
        (),
        "Layer to take features from; by default those of docs/backbones.md. Can be repeated. With several backbones: "
        "0.LAYER, 1.LAYER.",
        "-le",
        paper="layer2,layer3",
        multiple=True,
    )
    backbone_weights: str = trained(
        IMAGENET,
        "Weights of the backbone: trained on ImageNet, random, or a state dict (.pth, .safetensors).",
        paper=IMAGENET,
        metavar="imagenet|random|FILE",
    )
    normalise: str = trained(
        IMAGENET,
        "Mean and deviation that the backbone gets its images by: ImageNet's, as released, or those of the model's own "
        "training.",
        paper=IMAGENET,
        type=click.Choice(NORMALISATIONS),
        compared=True,
    )
    pretrain_embed_dimension: int = network(
        1024,
        "Width that the neighbourhoods of each layer are pooled to.",
        paper=1536,
        type=click.IntRange(1),
        compared=True,
    )
    target_embed_dimension: int = network(
        1024, "Width of a feature row.", paper=1536, type=click.IntRange(1), compared=True
    )
    patchsize: int = network(
        3, "Side of a neighbourhood on the feature grid; odd.", paper=3, type=click.IntRange(1, 99)
    )
    meta_epochs: int = network(640, "Number of epochs.", paper=640, type=click.IntRange(1), compared=True)
    iterations: int = network(
        0, "End after this many iterations, instead of after --meta_epochs; 0: after those.", paper=0,
        type=click.IntRange(0), compared=True,
    )  # fmt: skip
    eval_epochs: int = network(
        1, "Number of epochs between two evaluations.", paper=1, type=click.IntRange(1), compared=True
    )
    dsc_layers: int = network(2, "Linear layers of the discriminator.", paper=2, type=click.IntRange(1, 1000))
    dsc_hidden: int = network(
        1024, "Width of the discriminator's hidden layers.", paper=1024, type=click.IntRange(1), compared=True
    )
    dsc_margin: float = network(0.5, "Score at which the logged shares p_true and p_fake are counted.", type=Number())
    pre_proj: int = network(
        1, "Linear layers of the feature adaptor; 0 for none.", paper=1, type=click.IntRange(0, 1000)
    )
    mining: int = network(
        1, "1: gradient ascent on the noisy features. 0: noise alone.", paper=1, type=click.IntRange(0, 1)
    )
    las: int = network(
        1, "Local anomaly synthesis: defects on images. 0: none.", paper=1, type=click.IntRange(0, 1), compared=True
    )
    gas: int = network(
        1, "Global anomaly synthesis: noise on features. 0: none.", paper=1, type=click.IntRange(0, 1), compared=True
    )
    project: int = network(
        1, "Project what gradient ascent moves to a shell. 0: leave it.", paper=1, type=click.IntRange(0, 1),
        compared=True,
    )  # fmt: skip
    manifold_radii: tuple[float, float] = network(
        MANIFOLD_RADII,
        "Shell of that projection around each normal feature, where no hypersphere is taken for granted: least and "
        "greatest distance. The released 0.5,1 gave the published figures; the paper's text has 1,2.",
        paper=MANIFOLD_RADII,
        type=Span(Number(0)),
        metavar="LOW,HIGH",
        show_default=",".join(f"{each:g}" for each in MANIFOLD_RADII),
        compared=True,
    )
    local_loss: str = network(
        FOCAL,
        "Loss of local anomalies: focal, or cross entropy.",
        paper=FOCAL,
        type=click.Choice(LOCAL_LOSSES),
        compared=True,
    )
    noise: float = network(0.015, "Standard deviation of the noise on the features.", paper=0.015, type=Number(0))
    radius: float = network(
        0.75, "Quantile of the distances from the center that is the radius.", paper=0.75, type=Number(0, 1)
    )
    p: float = network(
        0.5,
        "The focal loss leaves out the rows below this quantile of hardness; 0 keeps all.",
        paper=0.5,
        type=Number(0, 1),
    )
    lr: float = network(
        0.0001,
        "Learning rate of the adaptor. The discriminator has twice this rate.",
        paper=0.0001,
        type=Number(0, min_open=True),
        compared=True,
    )
    schedule: str = network(
        CONSTANT,
        "How the learning rate changes over the run. cosine: it falls to 0 at the end.",
        paper=CONSTANT,
        type=click.Choice(SCHEDULES),
        compared=True,
    )
    warmup: int = network(
        0, "Iterations in which the learning rate rises to --lr.", paper=0, type=click.IntRange(0), compared=True
    )
    ema_decay: float = network(
        0.0,
        "Test and keep a running average of the trained weights: the share that it keeps in an iteration, such as "
        "0.98. 0: the weights themselves.",
        paper=0,
        type=Number(0, 1, max_open=True),
        compared=True,
    )
    dsc_init: str = network(
        XAVIER,
        "Experimental. whitened: the discriminator's first matrix begins with the inverse root of the features' "
        "covariance, so that it sees the noise from the start.",
        paper=XAVIER,
        type=click.Choice(STARTS),
        compared=True,
    )
    dsc_optimizer: str = network(
        ADAMW,
        "Experimental. muon: train the discriminator's first matrix with Muon.",
        paper=ADAMW,
        type=click.Choice(OPTIMIZERS),
        compared=True,
    )
    recipe: str = trained(
        PAPER,
        "Settings under one name, which options given beside it override. paper: every option's own default. quick: "
        f"{settings_text(RECIPES[QUICK])}.",
        paper=PAPER,
        own=OWN_RECIPE,
        type=click.Choice(list(RECIPES)),
        compared=True,
    )
    svd: int = option(
        0,
        "Accepted for old command lines; --distribution decides.",
        shapes=(MODEL,),
        type=click.IntRange(0, 1),
    )
    step: int = network(20, "Steps of gradient ascent.", paper=20, type=click.IntRange(0))
    limit: int = network(
        392,
        "An epoch ends after the batch that passes this number of images.",
        paper=392,
        type=click.IntRange(1),
        compared=True,
    )
    cache: str = option(
        AUTO,
        "Where to keep features that never change: wherever they fit, on the device, in host memory, or nowhere.",
        shapes=(MODEL,),
        type=click.Choice(PLACES),
    )
    precision: str = network(
        "fp32",
        "tf32: faster, rounded products on CUDA. bf16: frozen backbone, ascent and discriminator in bfloat16.",
        paper="fp32",
        type=click.Choice(PRECISIONS),
    )
    cuda_graph: bool = option(
        False,
        "On CUDA, launch a training step as one CUDA graph; not for --resize_mode letterbox, whose shapes change.",
        shapes=(MODEL,),
        is_flag=True,
    )
    triton: bool = option(False, "On CUDA, ascend by Triton kernels; equal to rounding.", shapes=(MODEL,), is_flag=True)
    train_backbone: bool = network(False, "Train the backbone as well.", paper=False, is_flag=True)

    def __post_init__(self) -> None:
        if self.patchsize % 2 == 0:
            raise ValueError(f"--patchsize {self.patchsize} must be odd, so that a neighbourhood has a centre.")
        if not self.las and not self.gas:
            raise ValueError("--las 0 and --gas 0 leave nothing to learn from: leave one of them out.")
        shell = ("project", "manifold_radii")
        if not self.las:
            refuse_given(self, ("p", "local_loss"), "--las 0 leaves out the loss of local anomalies")
        if not self.gas:
            start = () if self.dsc_init == WHITENED else ("noise",)
            refuse_given(self, (*start, "mining", "step", *shell, "triton"), "--gas 0 leaves out global anomalies")
        if not self.mining or not self.step:  # --mining 0 --step N is a command line of the release
            refuse_given(self, (*shell, "triton"), f"--{'step' if self.mining else 'mining'} 0 leaves out the ascent")
        if not self.project:
            refuse_given(self, ("manifold_radii",), "--project 0 leaves out the projection")


@dataclass(frozen=True)
class DataOptions:
    """Options and arguments of the command `dataset`: which images, how read, and how defects are synthesised."""

    subdatasets: tuple[str, ...] = option((), "Class. Can be repeated.", "-d", multiple=True, required=True)
    batch_size: int = sample(8, "Images in a batch.", paper=8, type=click.IntRange(1), compared=True)
    num_workers: int = option(16, "Processes that load images; at most one for each core.", type=click.IntRange(0))
    resize_mode: str = sample(
        CROP,
        "crop: resize, then cut out the centre. stretch: resize to the exact size; the aspect changes. letterbox: keep "
        "the aspect and pad.",
        paper=CROP,
        own=LETTERBOX,
        type=click.Choice(MODES),
    )
    resize: int | tuple[int, int] | None = sample(
        None,
        "Length of the shorter side before the crop, in pixels. HxW changes the aspect.",
        paper=288,
        type=Size(),
        metavar="N|HxW",
        show_default=f"{RESIZE}, for crop alone",
        compared=True,
    )
    imagesize: int | tuple[int, int] = sample(
        288,
        "Size of the network's input in pixels: one side, or HxW.",
        paper=288,
        type=Size(),
        metavar="N|HxW",
        compared=True,
    )
    rotate_degrees: float = random_transform("Rotate training images by up to this many degrees.", type=Number(0))
    translate: float = random_transform("Shift training images by up to this share of their size.", type=Number(0, 1))
    scale: float = random_transform("Scale training images by up to this share.", type=Number(0, 1, max_open=True))
    brightness: float = random_transform(
        "Change the brightness of training images by up to this share.", type=Number(0), reader="brightness_factor"
    )
    contrast: float = random_transform(
        "Change the contrast of training images by up to this share.", type=Number(0), reader="contrast_factor"
    )
    saturation: float = random_transform(
        "Change the saturation of training images by up to this share.", type=Number(0), reader="saturation_factor"
    )
    gray: float = random_transform("Probability of turning a training image gray.", type=Number(0, 1), reader="gray_p")
    hflip: float = random_transform(
        "Probability of mirroring a training image left to right.", type=Number(0, 1), reader="h_flip_p"
    )
    vflip: float = random_transform(
        "Probability of mirroring a training image top to bottom.", type=Number(0, 1), reader="v_flip_p"
    )
    distribution: int = sample(
        0,
        "Hypothesis. 0: from the table. 1: judge the images and stop. 2: manifold. 3: hypersphere. 4: the opposite of "
        "the table.",
        type=click.IntRange(0, 4),
        compared=True,
    )
    mean: float = sample(
        0.5, "Mean of beta, the share of the picture that shows through a synthetic defect.", paper=0.5, type=Number()
    )
    std: float = sample(0.1, "Standard deviation of beta.", paper=0.1, type=Number(0))
    opacity: tuple[float, float] | None = look(
        None,
        "Draw the opacity of synthetic defects evenly from LOW to HIGH, at most 1, instead of 1 - beta by --mean and "
        "--std.",
        type=Span(Number(0, 1, min_open=True)),
        metavar="LOW,HIGH",
    )
    defect_size: tuple[float, float] | None = look(
        None,
        "Size of synthetic defects: cells of the noise that shapes them, as shares of the picture's sides, rounded to "
        "powers of 1/2. By default 0.03,1.",
        type=Span(Number(LEAST_CELL, 1)),
        metavar="LOW,HIGH",
    )
    real_defects: str | None = made_elsewhere(
        None,
        "Folder of pictures of confirmed defects, masks beside them (x_mask of x): cut-outs of these take the place of "
        "some synthetic defects.",
        metavar="FOLDER",
    )
    real_share: float = made_elsewhere(
        0.5, "Share of the local anomalies that --real_defects makes.", type=Number(0, 1, min_open=True)
    )
    mask_mode: str = look(
        MIXED,
        "Mask of a synthetic defect: one Perlin mask, the union or the intersection of two, or mixed: each by chance.",
        paper=MIXED,
        type=click.Choice(MASK_MODES),
        compared=True,
    )
    synthesis: str | None = made_elsewhere(
        None,
        "Function that makes the local anomalies in place of the paper's way: it gets image, texture, foreground and a "
        "random generator and returns the picture with its defect and the mask (docs/library.md).",
        metavar="MODULE:FUNCTION",
    )
    fg: int = sample(
        1,
        "Keep synthetic defects on the foreground. 0: never. 1: always. 2: as the table says.",
        paper=1,
        own=0,
        type=click.IntRange(0, 2),
        compared=True,
    )
    calibration: float = trained(
        0.0,
        "Share of the training images held out to set the threshold. 0: the normal test images set it.",
        paper=0,
        own=0.1,
        type=Number(0, 1, max_open=True),
        show_default=f"0; 0.1 for {OWN}",
    )
    rand_aug: int = sample(
        1, "1: change each texture by three random operations. 0: leave it.", paper=1, type=click.IntRange(0, 1)
    )
    downsampling: int = option(
        8,
        "Accepted for old command lines; the backbone's own grid decides.",
        shapes=(READER,),
        type=click.IntRange(1),
    )
    normal_dir: tuple[str, ...] = sample(
        (GOOD,), "Name of a folder, or label of VisA's list, of normal pictures. Can be repeated.", multiple=True
    )
    defect_dir: tuple[str, ...] = option(
        (),
        "Name of a folder or label of pictures that are not normal, whatever it sounds like. Can be repeated.",
        shapes=(READER,),
        multiple=True,
    )
    sidecars: str = option(
        ASK,
        "What x_GT, x_mask and x_label beside a picture x are. mask: its mask, and the picture is normal if that is "
        "empty. ignore: left out. picture: a picture like the others. ask: stop and say so.",
        shapes=(READER,),
        type=click.Choice(SIDECARS),
    )
    bits: int | None = sample(
        None,
        "Bits of the values in 16-bit pictures whose camera fills fewer: 10, 12 or 14. 16: they are only dark.",
        type=click.IntRange(8, 16),
    )
    mask_threshold: float | None = sample(
        None,
        "Share of full white from which on a pixel of the resized ground truth counts as defect. By default full white "
        "alone does, as released.",
        type=Number(0, 1, min_open=True),
    )
    roi: str | None = framed(
        "Region of interest, in pixels of the camera's picture, or a picture that is black where nothing counts. "
        "Nothing outside it is looked at.",
        metavar="X,Y,W,H|FILE",
    )
    tile: int | tuple[int, int] | None = framed(
        "Cut large pictures into tiles of this size in pixels, for training, calibration and prediction.",
        type=Size(),
        metavar="N|HxW",
    )
    overlap: int | None = framed("Overlap of tiles in pixels. By default a quarter of a tile.", type=click.IntRange(0))
    skip_broken: bool = option(
        False, "Leave out images that cannot be read, and count them.", shapes=(READER,), is_flag=True
    )
    release_pictures: bool = option(
        True,
        "Pictures of tests in eval/ and training/: as released, heat maps in fixed colours, or the image under colours "
        "that follow the model's calibration.",
        own=False,
        off="calibrated_pictures",
        is_flag=True,
        show_default=f"as released; calibrated for {OWN}",
    )
    augment: bool = option(False, IGNORED, shapes=(READER,), is_flag=True)
    name: str = argument("", type=click.Choice([*PAPERS, *FURTHER, OWN]))
    data_path: Path = argument(Path(), type=click.Path(path_type=Path))
    aug_path: Path | None = argument(None, type=click.Path(path_type=Path), required=False)

    def __post_init__(self) -> None:
        refuse_unused(self.name, self.mask_threshold, self.sidecars, (*self.normal_dir, *self.defect_dir))
        if self.name in VALIDATED and self.calibration > 0:
            raise ValueError(
                f"--calibration: {self.name} has validation images, which set the threshold: leave it out."
            )
        Geometry(self.resize, pair(self.imagesize), self.resize_mode)  # refuses what does not fit together
        if self.opacity is not None and (self.mean, self.std) != (DataOptions.mean, DataOptions.std):
            raise ValueError("--opacity takes the place of --mean and --std: leave it or them out.")
        if self.real_defects is None and self.real_share != DataOptions.real_share:
            raise ValueError("--real_share has no effect without --real_defects: name their folder, or leave it out.")
        if self.synthesis is not None:
            self._refuse_look()

    def _refuse_look(self) -> None:
        """Refuse options that say how defects look where a function of one's own decides that."""
        opacity = ("opacity",) if self.real_defects is None else ()
        names = ("mean", "std", "defect_size", "mask_mode", *opacity)
        refuse_given(self, names, "--synthesis decides how defects look")

    @classmethod
    def given(cls, **values: Any) -> "DataOptions":
        """Make the options of a command line, where None stands for the default of this kind of data.

        Raises:
            ValueError: they do not fit together.
        """
        for item in fields(cls):
            own = item.metadata.get("own")
            if own is not None and values[item.name] is None:
                values[item.name] = own if values["name"] == OWN else item.default
        if values["resize"] is None and values["resize_mode"] == CROP:
            values["resize"] = RESIZE
        if str(values["aug_path"]) == NO_TEXTURES:
            values["aug_path"] = None
        return cls(**values)


ALL = (RunOptions, NetOptions, DataOptions)


def refuse_given(part: Any, names: Iterable[str], why: str) -> None:
    """Refuse options that have no effect beside others.

    Args:
        part: options that were made.
        names: of those without effect.
        why: what takes their effect.

    Raises:
        ValueError: one has another value than its default.
    """
    given = [f"--{name}" for name in names if getattr(part, name) != getattr(type(part), name)]
    if given:
        raise ValueError(f"{', '.join(given)}: {why}: leave one or the other out.")


def refuse_unused(name: str, mask_threshold: float | None, sidecars: str, folders: Collection[str]) -> None:
    """Refuse options that mean nothing for a benchmark.

    Args:
        name: of the benchmark.
        mask_threshold, sidecars: options.
        folders: --normal_dir and --defect_dir.

    Raises:
        ValueError: one is given.
    """
    if name in NUMBERED and mask_threshold is not None:
        raise ValueError(
            f"--mask_threshold has no effect on {name}, whose masks number the defects 1, 2, ...: leave it out."
        )
    if name in ("visa", *FURTHER) and sidecars != ASK:
        what = "list names" if name == "visa" else "layout tells"
        raise ValueError(f"--sidecars has no effect on {name}, whose {what} the masks: leave it out.")
    if name in FURTHER and {*folders} != {GOOD}:
        raise ValueError(f"--normal_dir and --defect_dir have no effect on {name}, whose layout is fixed: leave them.")


def with_recipe(
    run: RunOptions, net: NetOptions, data: DataOptions, named: Collection[str]
) -> tuple[RunOptions, NetOptions]:
    """Return the options with what their recipe sets, and its name.

    Args:
        run, net, data: as given.
        named: names of the options that stand on the command line, and so keep their values.

    Raises:
        ValueError: they do not fit together.
    """
    name = net.recipe or (OWN_RECIPE if data.name == OWN else PAPER)
    kept = {*named, "iterations"} if "meta_epochs" in named else named  # either of them is the length
    sets = {"recipe": name} | {key: value for key, value in RECIPES[name].items() if key not in kept}
    parts = [{item.name for item in fields(part)} & set(sets) for part in (run, net)]
    run, net = (replace(part, **{key: sets[key] for key in own}) for part, own in zip((run, net), parts, strict=True))
    _refuse_idle(run, net, data)
    return run, net


def _refuse_idle(run: RunOptions, net: NetOptions, data: DataOptions) -> None:
    """Refuse options that an option of another command leaves without effect; see refuse_given."""
    if data.distribution == HYPERSPHERE:
        refuse_given(net, ("manifold_radii",), f"--distribution {HYPERSPHERE} takes a hypersphere for granted")
    if not net.las:
        held_out = run.select == SYNTHETIC or data.calibration > 0  # whose defects are never real ones
        looks = ("mean", "std", "opacity", "defect_size", "mask_mode", "rand_aug", "synthesis")
        refuse_given(data, (*(() if held_out else looks), "real_defects"), "--las 0 leaves out local anomalies")


def recipe_sets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return which of recorded settings are as their recipe sets them; {} with the paper's, which sets nothing."""
    values = RECIPES.get(settings.get("recipe", PAPER), {})
    return {key: value for key, value in values.items() if settings.get(key) == value}


def parameters(kind: type) -> Callable[[Callable], Callable]:
    """Return a decorator that gives a click command the options and arguments of one of ALL, in their order."""

    def decorate(function: Callable) -> Callable:
        for item in reversed(fields(kind)):
            function = _parameter(item)(function)
        return function

    return decorate


def names(shapes: str, *kinds: type) -> list[str]:
    """Return the names of the options that shape something, as runs record them; of ALL or of these kinds."""
    found = [item for kind in kinds or ALL for item in fields(kind) if shapes in item.metadata.get("shapes", ())]
    return [item.metadata["recorded"] or item.name for item in found]


def values(options: Any, shapes: str) -> dict[str, Any]:
    """Return the values of those options that shape something, by name."""
    shaping = [item for item in fields(options) if shapes in item.metadata.get("shapes", ())]
    return {item.metadata["recorded"] or item.name: getattr(options, item.name) for item in shaping}


def reader_values(options: DataOptions) -> dict[str, Any]:
    """Return the options for a reader, under the names of its arguments."""
    shaping = [item for item in fields(options) if READER in item.metadata.get("shapes", ())]
    return {item.metadata["reader"] or item.name: getattr(options, item.name) for item in shaping}


def defaults(kind: type, shapes: str) -> dict[str, Any]:
    """Return the defaults of those options of a kind that shape something: how it was before the option was there."""
    shaping = [item for item in fields(kind) if shapes in item.metadata.get("shapes", ())]
    return {item.metadata["recorded"] or item.name: item.default for item in shaping}


def paper_values() -> dict[str, Any]:
    """Return what the published figures were made with, as runs record it."""
    found = [item for kind in ALL for item in fields(kind)]
    known = [item for item in found if item.metadata.get("paper", UNKNOWN) is not UNKNOWN]
    return {item.metadata["recorded"] or item.name: item.metadata["paper"] for item in known}


def _parameter(item: Field) -> Callable[[Callable], Callable]:
    """Return click's decorator for a field."""
    about = item.metadata
    if about.get("argument"):
        return click.argument(item.name, **about["parameter"])
    default = list(item.default) if isinstance(item.default, tuple) else item.default
    given = {"default": default, "help": about["help"], **about["parameter"]}
    name = f"--{item.name}/--{about['off']}" if about["off"] else f"--{item.name}"
    return click.option(name, *about["flags"], **given)
