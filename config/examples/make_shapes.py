"""Small pictures of circles, squares and crosses: shapes.npz, and the same as files, shapes/<part>/<class>/*.png."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["circle", "square", "cross"]


def picture(kind, rng):
    """One shape of random size and place on 16 × 16 grey pixels, with noise."""
    y, x = np.mgrid[:16, :16]
    dx, dy = np.abs(x - rng.integers(5, 11)), np.abs(y - rng.integers(5, 11))
    size = rng.integers(2, 5)
    inside = [
        dx**2 + dy**2 <= size**2,
        np.maximum(dx, dy) <= size,
        (np.minimum(dx, dy) == 0) & (dx + dy <= size),
    ][kind]
    return np.clip(60 + 120 * inside + rng.normal(0, 30, (16, 16)), 0, 255).astype(np.uint8)


def pictures(count, seed):
    """`count` pictures [N, 16, 16] and their classes [N]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return np.stack([picture(kind, rng) for kind in labels]), labels


if __name__ == "__main__":
    x_train, y_train = pictures(600, seed=0)
    x_test, y_test = pictures(200, seed=1)
    np.savez("shapes.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=CLASSES)
    for part, images, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = Path("shapes", part, CLASSES[label])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
