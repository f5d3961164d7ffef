"""A backbone that needs no download and no training: fixed filters as the first layers of a ResNet-18.

filter_bank() is the state dict of conv1 and bn1, for `--backbone_weights FILE -b resnet18 -le maxpool`; demo.py writes
the file. Gabor filters in every direction see lines and edges, Gaussian ones see brightness; batch norm sets scale and
threshold, and the network's own activation and pooling do the rest. There is nothing of ImageNet's knowledge in it:
it tells textures apart, not things.
"""

import numpy as np

SIDE, FILTERS, CHANNELS = 7, 64, 3  # of a ResNet's conv1
ORIENTATIONS = 6
SCALES = ((3.5, 1.3), (7.0, 2.2))  # wavelength and deviation of the envelope, pixels
BRIGHTNESS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)  # thresholds, in ImageNet's deviations
BLUR = 1.0  # deviation of the brightness filters, pixels
# Normal rows then lie 10 to 30 from their centre. The radii of truncated projection, 0.5 and 1, are absolute: with a
# gain of 1 or less, noise is as large as the differences between normal rows, and is learnt instead of defects.
GAIN = 10.0


def gabor_filters() -> np.ndarray:
    """Return even and odd Gabor filters of both signs, [48, SIDE, SIDE]; each has mean 0 and absolute sum 2."""
    reach = SIDE // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    filters = []
    for wavelength, deviation in SCALES:
        envelope = np.exp(-(x**2 + y**2) / (2 * deviation**2))
        for angle in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
            across = x * np.cos(angle) + y * np.sin(angle)
            for phase in (0, np.pi / 2):
                wave = envelope * np.cos(2 * np.pi * across / wavelength + phase)
                wave -= envelope * wave.sum() / envelope.sum()
                wave *= 2 / np.abs(wave).sum()
                filters += [wave, -wave]
    return np.stack(filters)


def brightness_filters() -> tuple[np.ndarray, np.ndarray]:
    """Return Gaussian filters of both signs for each threshold, [16, SIDE, SIDE], and their biases [16]."""
    distances = np.arange(SIDE) - SIDE // 2
    profile = np.exp(-(distances**2) / (2 * BLUR**2))
    gaussian = np.outer(profile, profile) / profile.sum() ** 2
    signs = np.tile([1.0, -1.0], len(BRIGHTNESS))
    return signs[:, None, None] * gaussian, -signs * np.repeat(BRIGHTNESS, 2)


def filter_bank() -> dict[str, np.ndarray]:
    """Return the state dict of a ResNet's conv1 and bn1; the filters look at the mean of the colours."""
    brightness, biases = brightness_filters()
    filters = np.concatenate([gabor_filters(), brightness])
    weight = np.repeat(filters[:, None] / CHANNELS, CHANNELS, axis=1)  # [FILTERS, CHANNELS, SIDE, SIDE]
    bias = np.concatenate([np.zeros(FILTERS - len(biases)), biases])
    return {
        "conv1.weight": weight.astype(np.float32),
        "bn1.weight": np.full(FILTERS, GAIN, np.float32),
        "bn1.bias": (GAIN * bias).astype(np.float32),
        "bn1.running_mean": np.zeros(FILTERS, np.float32),
        "bn1.running_var": np.ones(FILTERS, np.float32),
    }
