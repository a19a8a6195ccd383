import pytest
from PIL import Image

from tasks.data.load import load
from tasks.errors import UserError


def draw(folder, name, value, size=(4, 4), mode="L"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(folder / name)


def test_a_folder_is_cut_by_the_fifth_image_of_each_class(tmp_path):
    for index in range(10):
        draw(tmp_path / "set" / "dog", f"{index}.png", index)
    for index in range(5):
        draw(tmp_path / "set" / "cat", f"{index}.png", 100 + index)
    (tmp_path / "set" / ".hidden").write_text("")
    loaded = load(f"folder:{tmp_path / 'set'}")
    assert (loaded.name, loaded.classes, loaded.shape) == ("set", ("cat", "dog"), (1, 4, 4))
    assert loaded.train_images[:, 0, 0, 0].tolist() == [100, 101, 102, 103, 0, 1, 2, 3, 5, 6, 7, 8]
    assert loaded.test_images[:, 0, 0, 0].tolist() == [104, 4, 9]
    assert loaded.train_labels.tolist() == [0] * 4 + [1] * 8
    assert loaded.test_labels.tolist() == [0, 1, 1]


def test_the_hash_of_a_folder_follows_its_pixels(tmp_path):
    for index in range(5):
        draw(tmp_path / "cat", f"{index}.png", index)
    first = load(f"folder:{tmp_path}").sha256
    assert load(f"folder:{tmp_path}").sha256 == first
    draw(tmp_path / "cat", "2.png", 77)
    assert load(f"folder:{tmp_path}").sha256 != first


def test_a_folder_with_train_and_test_keeps_them_and_one_colour_image_makes_all_rgb(tmp_path):
    draw(tmp_path / "train" / "cat", "a.png", 7)
    draw(tmp_path / "train" / "cat", "b.png", (1, 2, 3), mode="RGB")
    draw(tmp_path / "test" / "cat", "a.png", 9)
    loaded = load(f"folder:{tmp_path}")
    assert loaded.train_images[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]
    assert loaded.test_images[:, :, 0, 0].tolist() == [[9, 9, 9]]


def test_a_folder_keeps_height_and_width_apart(tmp_path):
    for index in range(5):
        draw(tmp_path / "cat", f"{index}.png", index, size=(6, 2))
    assert load(f"folder:{tmp_path}").shape == (1, 2, 6)


def sizes(root):
    for index in range(5):
        draw(root / "cat", f"{index}.png", 0, size=(4, 4 + index // 4))


def few(root):
    draw(root / "cat", "0.png", 0)


def text(root):
    few(root)
    (root / "cat" / "notes.txt").write_text("x")
    for index in range(5):
        draw(root / "cat", f"{index}.png", 0)


def torn(root):
    for index in range(5):
        draw(root / "cat", f"{index}.png", 0, size=(64, 64))
    picture = root / "cat" / "3.png"
    picture.write_bytes(picture.read_bytes()[:60])


def stray(root):
    few(root)
    (root / "notes.txt").write_text("x")


def unequal(root):
    draw(root / "train" / "cat", "0.png", 0)
    draw(root / "test" / "dog", "0.png", 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (sizes, "0.png is 4x4 and 4.png is 4x5; resize"),
        (few, "'cat' has 1"),
        (text, "notes.txt is not one"),
        (torn, "3.png is not one"),
        (stray, "file notes.txt"),
        (unequal, "'cat' is in one only"),
        (lambda root: root.rmdir(), "must exist"),
        (lambda root: (root / "cat").mkdir(), "'cat' is empty"),
    ],
)
def test_a_folder_that_is_no_image_set_is_refused_in_one_line(tmp_path, build, message):
    root = tmp_path / "set"
    root.mkdir()
    build(root)
    with pytest.raises(UserError, match=message) as caught:
        load(f"folder:{root}")
    assert "\n" not in str(caught.value)
