"""A directory with one directory per class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tiedexp.data.sources import check_prepared, describe_dataset, load_dataset
from tiedexp.errors import DatasetError


def save(path, value=0, size=(4, 4), mode="L"):
    """An image of one value, (cols, rows)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


@pytest.fixture
def divided(tmp_path):
    """Two classes, with train/ and test/."""
    for number in range(3):
        save(tmp_path / "train" / "cat" / f"{number}.png", 10 + number)
        save(tmp_path / "train" / "dog" / f"{number}.png", 20 + number)
    save(tmp_path / "test" / "dog" / "0.png", 99)
    return tmp_path


def load(path, **options):
    dataset = load_dataset("folder", path=path, **options)
    shape = describe_dataset("folder", path=path, image_size=options.get("image_size"))
    described = (shape.image_shape, shape.num_classes, shape.train_images, shape.test_images)
    assert described == (dataset.image_shape, dataset.num_classes, len(dataset.train), len(dataset.test))
    return dataset


def test_training_and_test_directories(divided):
    (divided / "train" / "cat" / "notes.txt").write_text("not an image")
    (divided / "train" / ".cache").mkdir()
    dataset = load(divided)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.images[:, 0, 0, 0].tolist() == [10, 11, 12, 20, 21, 22]
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [1]
    check_prepared("folder", path=divided)


def test_class_directories_alone_get_a_fixed_stratified_test_split(tmp_path):
    for number in range(10):
        save(tmp_path / "a" / f"{number}.png", number)
        save(tmp_path / "b" / "deeper" / f"{number}.jpg", 100)
    dataset = load(tmp_path)
    assert np.bincount(dataset.train.labels).tolist() == [8, 8]
    assert np.bincount(dataset.test.labels).tolist() == [2, 2]
    assert load(tmp_path).fingerprint == dataset.fingerprint


def test_one_image_in_colour_makes_all_of_them_rgb(divided):
    save(divided / "test" / "dog" / "1.png", (1, 2, 3), mode="RGB")
    dataset = load(divided)
    assert dataset.image_shape == (4, 4, 3)
    assert dataset.test.images[1, 0, 0].tolist() == [1, 2, 3]
    assert dataset.train.images[0, 0, 0].tolist() == [10, 10, 10]


@pytest.mark.parametrize("read", [load_dataset, describe_dataset])
def test_a_mixture_of_grey_and_colour_is_a_warning(divided, read):
    told = []
    read("folder", path=divided, warn=told.append)
    assert told == []
    odd = save(divided / "test" / "dog" / "1.png", (1, 1, 1, 255), mode="RGBA")
    read("folder", path=divided, warn=told.append)
    assert told == [
        f"the images are mixed, with 7 grey and 1 in colour ({odd} is in colour or has transparency): all are read in "
        "colour, with 3 channels"
    ]
    for number in range(3):
        for name in ("cat", "dog"):
            save(divided / "train" / name / f"{number}.png", (1, 2, 3), mode="RGB")
    read("folder", path=divided, warn=told.append)
    grey = divided / "test" / "dog" / "0.png"
    assert told[1:] == [
        f"the images are mixed, with 1 grey and 7 in colour ({grey} is grey): all are read in colour, with 3 channels"
    ]
    grey.unlink()
    read("folder", path=divided, warn=told.append)
    assert len(told) == 2


def test_a_class_of_too_few_images_is_named(tmp_path):
    for number in range(20):
        save(tmp_path / "cat" / f"{number}.png", number)
    save(tmp_path / "dog" / "0.png")
    with pytest.raises(
        DatasetError, match=r"class 'dog' has 1 image, so it cannot be in both training and test; .* at least 2"
    ):
        load_dataset("folder", path=tmp_path)
    save(tmp_path / "dog" / "1.png")
    save(tmp_path / "ant" / "0.png")
    save(tmp_path / "ant" / "1.png")
    dataset = load_dataset("folder", path=tmp_path)
    rest = np.bincount(dataset.train.labels)
    assert 1 in rest
    name = dataset.class_names[rest.argmin()]
    with pytest.raises(
        DatasetError,
        match=rf"class '{name}' has 1 image left after 1 of its 2 were set aside for the test, so it cannot be in both "
        r"training and validation; every class needs at least 3",
    ):
        dataset.split_validation(0.25, 0)


def test_image_size_scales_the_middle_square(divided):
    wide = Image.new("L", (12, 4), 0)
    wide.paste(200, (4, 0, 8, 4))
    wide.save(divided / "train" / "cat" / "wide.png")
    dataset = load(divided, image_size=4)
    assert dataset.image_shape == (4, 4, 1)
    assert set(dataset.train.images[3].ravel()) == {200}
    larger = load(divided, image_size=8)
    assert set(larger.train.images[3, :, 2:-2].ravel()) == {200}
    assert set(larger.train.images[0].ravel()) == {10}


def test_photographs_are_turned_upright(tmp_path):
    sideways = Image.new("L", (16, 8), 0)
    sideways.paste(255, (0, 0, 8, 8))  # its left half, which the camera held upwards
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        save(tmp_path / "train" / name / "0.png", size=(8, 16))
        save(tmp_path / "test" / name / "0.jpg")
        sideways.save(tmp_path / "test" / name / "0.jpg", exif=exif)
    dataset = load(tmp_path)
    assert dataset.image_shape == (16, 8, 1)
    assert dataset.test.images[0, :8].min() > 250
    assert dataset.test.images[0, 8:].max() < 5


def test_different_sizes_need_image_size(divided):
    save(divided / "test" / "dog" / "1.png", size=(5, 4))
    for read in (load_dataset, describe_dataset):
        with pytest.raises(DatasetError, match=r"0\.png is 4x4, .*1\.png is 4x5; set image_size"):
            read("folder", path=divided)


@pytest.mark.parametrize("damage", [b"", b"nonsense", "cut"])
def test_a_damaged_image_is_named(divided, damage):
    path = divided / "train" / "dog" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (4, 4)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:60] if damage == "cut" else damage)
    with pytest.raises(DatasetError, match=r"train/dog/1\.png is (damaged|not a readable image)"):
        load_dataset("folder", path=divided)


def test_deep_images_are_refused(divided):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(divided / "test" / "dog" / "deep.png")
    with pytest.raises(DatasetError, match=r"deep\.png has more than 8 bits per channel"):
        load_dataset("folder", path=divided)


def test_directories_that_are_not_datasets(tmp_path, divided):
    def refused(path, message):
        for function in (check_prepared, load_dataset):
            with pytest.raises(DatasetError, match=message):
                function("folder", path=path)

    refused(None, "the dataset 'folder' needs a path")
    refused(tmp_path / "nowhere", "there is no directory .*nowhere")
    (divided / "test" / "bird").mkdir()
    refused(divided, "must be among those of .*train; missing there: bird")
    (divided / "test" / "bird").rmdir()
    (divided / "train" / "fox").mkdir()
    refused(divided, r"class directory .*fox has no images \(\.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "has no class directories")
    save(tmp_path / "half" / "test" / "a" / "0.png")
    refused(tmp_path / "half", "has test/, but no train/")


def test_too_few_images_for_a_test_split(tmp_path):
    save(tmp_path / "a" / "0.png")
    save(tmp_path / "b" / "0.png")
    with pytest.raises(DatasetError, match="0 test images cannot be held out of 2"):
        load_dataset("folder", path=tmp_path)
