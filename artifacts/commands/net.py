"""Options of the command `net`: the networks and how they are trained."""

from dataclasses import dataclass

import click

from artifacts.commands.choices import (
    ADAMW,
    AUTO,
    CONSTANT,
    FOCAL,
    IMAGENET,
    LOCAL_LOSSES,
    MANIFOLD_RADII,
    NORMALISATIONS,
    OPTIMIZERS,
    OWN_RECIPE,
    PAPER,
    PLACES,
    PRECISIONS,
    QUICK,
    RECIPES,
    SCHEDULES,
    STARTS,
    WHITENED,
    XAVIER,
    settings_text,
)
from artifacts.commands.option import MODEL, network, option, refuse_given, trained
from system.parameters import Number, Span


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
        "covariance, so that it sees the noise from the start. auto: so where training images held out vary as the "
        "others do.",
        paper=XAVIER,
        type=click.Choice(STARTS),
        compared=True,
    )
    dsc_optimizer: str = network(
        ADAMW,
        "muon: train the discriminator's first matrix with Muon, so that it sees the noise sooner. auto: muon where "
        "training images held out vary as the others do.",
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
        "On CUDA, launch the gradients of a step as one graph; not for --resize_mode letterbox, whose shapes change.",
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
            start = () if {WHITENED, AUTO} & {self.dsc_init, self.dsc_optimizer} else ("noise",)
            refuse_given(self, (*start, "mining", "step", *shell, "triton"), "--gas 0 leaves out global anomalies")
        if not self.mining or not self.step:  # --mining 0 --step N is a command line of the release
            refuse_given(self, (*shell, "triton"), f"--{'step' if self.mining else 'mining'} 0 leaves out the ascent")
        if not self.project:
            refuse_given(self, ("manifold_radii",), "--project 0 leaves out the projection")
