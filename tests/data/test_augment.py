"""What happens to an image depends on seed, epoch and index, and is what it should be."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from deepsort_reid.data.loading.augment import MEAN, STD, Augmentation, normalise, uniforms

IMAGES = torch.from_numpy(
    np.random.default_rng(0).integers(0, 256, (12, 32, 16, 3)).astype(np.uint8)
)
INDICES = np.arange(100, 112)


def augmentation(
    flip: float = 0.0, crop_padding: int = 0, erase: float = 0.0, color_jitter: float = 0.0
) -> Augmentation:
    return Augmentation(flip, crop_padding, erase, color_jitter)


def drawn(
    augment: Augmentation, images: torch.Tensor, indices: np.ndarray, epoch: int
) -> torch.Tensor:
    return augment(images, torch.from_numpy(uniforms(3, epoch, indices)))


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    augment = augmentation(flip=0.5, crop_padding=4, erase=0.5, color_jitter=0.3)
    together = drawn(augment, IMAGES, INDICES, 7)
    order = torch.tensor([5, 0, 11])
    assert torch.equal(drawn(augment, IMAGES[order], INDICES[order.numpy()], 7), together[order])
    assert not torch.equal(drawn(augment, IMAGES, INDICES, 8), together)


def test_images_in_a_batch_differ_in_their_randomness() -> None:
    same = IMAGES[:1].expand(12, -1, -1, -1)
    augmented = drawn(augmentation(flip=0.5, crop_padding=4, erase=0.5), same, INDICES, 1)
    assert len({image.numpy().tobytes() for image in augmented}) == 12


def test_with_nothing_to_do_an_image_is_only_normalised() -> None:
    augmented = drawn(augmentation(), IMAGES, INDICES, 1)
    plain = (IMAGES / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(augmented, plain.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    assert torch.equal(augmented, normalise(IMAGES))
    assert augmented.dtype == torch.float32


def test_flip_mirrors_and_nothing_else() -> None:
    assert torch.equal(drawn(augmentation(flip=1.0), IMAGES, INDICES, 1), normalise(IMAGES).flip(3))


def test_crop_shifts_by_at_most_the_padding() -> None:
    plain, shifted = normalise(IMAGES), drawn(augmentation(crop_padding=2), IMAGES, INDICES, 1)
    padded = torch.nn.functional.pad(plain, (2, 2, 2, 2))
    windows = {
        (dy, dx): padded[:, :, dy : dy + 32, dx : dx + 16] for dy in range(5) for dx in range(5)
    }
    for number, image in enumerate(shifted):
        assert any(torch.equal(image, window[number]) for window in windows.values())


def test_erasing_takes_a_rectangle_of_the_published_size() -> None:
    white = torch.full((500, 40, 20, 3), 255, dtype=torch.uint8)
    erased = drawn(augmentation(erase=0.5), white, np.arange(500), 1)[:, 0] == 0
    happened = erased.flatten(1).any(1)
    assert 0.4 < happened.float().mean() < 0.6
    for mask in erased[happened]:
        rows, columns = mask.any(1), mask.any(0)
        assert int(mask.sum()) == int(rows.sum()) * int(columns.sum())  # one full rectangle
        assert 0.01 < mask.float().mean() < 0.45


def test_jitter_is_torchvisions_by_the_same_factors() -> None:
    strength = 0.4
    draws = torch.from_numpy(uniforms(3, 5, INDICES))
    factors = 1 + strength * (2 * draws[:, 8:11] - 1)
    assert (factors.amin(0) < 0.9).all()  # so that each of the three does something
    assert (factors.amax(0) > 1.1).all()
    images = IMAGES.permute(0, 3, 1, 2).float() / 255
    expected = []
    for image, (brightness, contrast, saturation) in zip(images, factors.tolist(), strict=True):
        changed = functional.adjust_brightness(image, brightness)
        changed = functional.adjust_contrast(changed, contrast)
        expected.append(functional.adjust_saturation(changed, saturation))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    found = drawn(augmentation(color_jitter=strength), IMAGES, INDICES, 5) * std + mean
    # torchvision's shares of the colours add up to 0.9999.
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-3)


def test_uniforms_are_uniform_and_independent() -> None:
    draws = uniforms(1, 2, np.arange(20_000))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(draws.T) - np.eye(draws.shape[1])).max() < 0.03
    other = uniforms(2, 2, np.arange(20_000))
    assert abs(np.corrcoef(draws[:, 0], other[:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("shape", [(1, 16, 16, 3), (5, 256, 128, 3)])
def test_any_size_works(shape: tuple[int, ...]) -> None:
    images = torch.zeros(shape, dtype=torch.uint8)
    augmented = drawn(augmentation(0.5, 8, 1.0), images, np.arange(shape[0]), 1)
    assert augmented.shape == (shape[0], 3, *shape[1:3])
