# ruff: noqa: E501 - a message is one line
"""Data: folders, pictures, lists, tables, arrays and named sets."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from table import Place, Row


def nothing(scene):
    """The folder stays empty."""


def no_walk(scene):
    scene.patch.setattr("forktail.data.open.open_folder", lambda folder: pytest.fail(f"{folder} is searched"))


def noise(path, side=40):
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (side, side, 3)).astype(np.uint8)).save(path)


# --- the argument ------------------------------------------------------------------------------------------------------

DATA = Place(
    "data",
    "The data, and what is done with them",
    "A folder, a list, a CSV or TSV file, an `.npz` file or a named set; `data.*` in a recipe or after `--set`.",
    (
        Row(
            "nothing there",
            "fit nowhere",
            nothing,
            'no file, folder or named set "nowhere"; expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "a typing error in a named set",
            "fit glyhps",
            nothing,
            'no file, folder or named set "glyhps"; expected a path, or a named set; did you mean "glyphs"?',
        ),
        Row(
            "a typing error in a path",
            "fit pictrues",
            lambda s: s.classes("pictures", a=2, b=2),
            'no file, folder or named set "pictrues"; expected a path, or a named set; did you mean "pictures"?',
        ),
        Row(
            "a mismatch above 1",
            "fit glyphs --set data.mismatch=2",
            nothing,
            "data.mismatch = 2.0; expected 0 (one kind of picture) to 1 (two)",
        ),
        Row(
            "a mismatch where there is none",
            "fit symbols --set data.mismatch=0.5",
            nothing,
            'data.mismatch has no meaning for "symbols"; expected it with glyphs; leave out data.mismatch',
        ),
        Row(
            "an empty name",
            "fit x --set data.path=",
            nothing,
            'data.path ""; expected a name or path in Unicode; name it, or rename the file',
        ),
        Row(
            "no name, as of a variable that is not set",
            "fit ''",
            no_walk,
            'data.path ""; expected a name or path in Unicode; name it, or rename the file',
        ),
        Row(
            "a name longer than names may be",
            f"fit {'x' * 300}",
            nothing,
            'no file, folder or named set "x…" (file name too long); expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "a broken link",
            "fit link",
            lambda s: s.path("link").symlink_to("nowhere"),
            'no file, folder or named set "link" (a broken link); expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "a link to itself",
            "fit link",
            lambda s: s.path("link").symlink_to("link"),
            'no file, folder or named set "link" (too many levels of symbolic links); expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "neither file nor folder",
            "fit /dev/null",
            nothing,
            'no file, folder or named set "/dev/null" (it exists, but is neither); expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "a part of a set that has its own",
            "fit glyphs --set data.test=test.txt",
            nothing,
            'data.test has no meaning for "glyphs"; expected it with a list or a CSV file; leave out data.test',
        ),
        Row(
            "a root where paths are not relative",
            "fit glyphs --set data.root=.",
            nothing,
            'data.root has no meaning for "glyphs"; expected it with a list, a CSV file, fashion-mnist or wordnet-gloss; leave out data.root',
        ),
        Row(
            "a root that is no folder",
            "fit train.txt --set data.root=pictures",
            lambda s: s.rows("train.txt", "0.png a", "1.png b"),
            'data.root "pictures" is no folder; expected the folder to which paths are relative; check the path',
        ),
        Row(
            "a seed below 0",
            "fit glyphs --set data.seed=-1",
            nothing,
            "data.seed -1; expected 0 or more, and less than 2^32",
        ),
        Row(
            "a seed that numpy cannot take",
            "fit glyphs --set data.seed=99999999999",
            nothing,
            "data.seed 99999999999; expected 0 or more, and less than 2^32",
        ),
        Row(
            "another word than stop or skip",
            "fit glyphs --set data.unreadable=skipp",
            nothing,
            "recipe: data.unreadable = 'skipp'; expected …'stop' or 'skip'",
        ),
        Row(
            "an unknown augmentation",
            "fit glyphs --set data.augment=flip",
            nothing,
            "recipe: data.augment = 'flip'; expected …'none', 'shift', 'shift-flip', 'crop-flip' or 'randaugment'",
        ),
        Row(
            "a share of erased pictures above 1",
            "fit glyphs --set data.erasing=25",
            nothing,
            "data.erasing = 25.0; expected a probability, 0 to 1",
        ),
        Row(
            "an unknown tail",
            "fit glyphs --set data.tail=pareto",
            nothing,
            "recipe: data.tail = 'pareto'; expected …'exponential' or 'step'",
        ),
        Row(
            "an imbalance below 1",
            "fit glyphs --set data.imbalance=0.5",
            nothing,
            "100 classes, n_max 200, imbalance 0.5; expected 2 classes, n_max of 1 and imbalance of 1, or more; set data.n_max and data.imbalance so, or leave them out",
        ),
        Row(
            "an imbalance that is no number",
            "fit glyphs --set data.imbalance=nan",
            nothing,
            "100 classes, n_max 200, imbalance nan; expected 2 classes, n_max of 1 and imbalance of 1, or more; set data.n_max and data.imbalance so, or leave them out",
        ),
        Row(
            "a tail that ends in nothing",
            "fit glyphs --set data.imbalance=1e9",
            nothing,
            "imbalance 1000000000.0 with 200 images in the largest class leaves none to the last class; expected an image or more in every class; set data.imbalance to at most 200, or leave it out if the set has a tail already",
        ),
        Row(
            "more pictures than the memory holds",
            "fit glyphs --set data.n_max=1000000000",
            nothing,
            "n_max 1000000000 of glyphs; expected at most 10000; set data.n_max lower",
        ),
        Row(
            "a tail longer than the classes",
            "fit pictures --set data.n_max=1000000000000000000000000",
            lambda s: s.classes("pictures", a=9, b=5),
            'class "a" has 8 images where the tail needs 9007199254740992; expected as many or more; set data.n_max to at most 4',
        ),
        Row(
            "no class to test on",
            "fit pictures",
            lambda s: s.classes("pictures", a=1, b=1),
            "no class has two images, so none can be held out to test on; expected two images or more in some class; add images, or a test part",
        ),
        Row(
            "large pictures, and no backbone named",
            "fit pictures",
            lambda s: [s.picture(f"pictures/{c}/{i}.png", side=224) for c in "ab" for i in range(3)],
            "the pictures are about 224 px wide and no backbone is named; expected --backbone NAME or FILE; for instance --backbone tiny (shrinks to 28 px: minutes on a CPU, details are lost), --backbone vit_small_patch16_224.augreg_in21k (22 M parameters, downloaded: about 28 GFLOP per image and step, a GPU for more than a few thousand images), --backbone vit_base_patch16_224.mae (86 M parameters, the paper's: about 105 GFLOP per image and step)",
        ),
    ),
)

# --- a folder ----------------------------------------------------------------------------------------------------------


def same_folder_as_class(scene):
    scene.classes("pictures", a=2, b=2)
    scene.path("pictures/all").symlink_to(".")


def no_unicode(scene):
    scene.classes("pictures", a=2, b=2)
    (scene.folder / "pictures/b").rename(scene.folder / "pictures/b\udcff")


def closed(name):
    def arrange(scene):
        scene.classes("pictures", a=2, b=2)
        (scene.folder / name).chmod(0)

    return arrange


FOLDER = Place(
    "folder",
    "A folder of pictures",
    "`CLASS/picture`, or `train/CLASS/picture` with `test` and `val` beside it. No errors, but notes: a class of a single "
    "picture (it is learned from and not tested), a missing test part (one is held out), files that are no pictures, "
    "classes or shot groups with fewer than 10 test pictures. Hidden files are passed over, links are followed.",
    (
        Row(
            "an empty folder",
            "fit pictures",
            lambda s: s.path("pictures/x"),
            "pictures has no class folders; expected a folder of pictures for each class, and two classes or more; move the pictures into pictures/CLASS/, one folder a class",
        ),
        Row(
            "pictures, but no class folders",
            "fit pictures",
            lambda s: s.picture("pictures/1.png"),
            "the pictures of pictures lie directly in it; expected a folder of pictures for each class, and two classes or more; move the pictures into pictures/CLASS/, one folder a class",
        ),
        Row(
            "a single class",
            "fit pictures",
            lambda s: s.classes("pictures", a=3),
            'pictures has a single class folder, "a"; expected a folder of pictures for each class, and two classes or more; move the pictures into pictures/CLASS/, one folder a class',
        ),
        Row(
            "a class without pictures",
            "fit pictures",
            lambda s: s.classes("pictures", a=3, b=0),
            "class folder pictures/b holds no picture; expected one or more in each class; fill it or delete it",
        ),
        Row(
            "a test part without class folders",
            "fit data",
            lambda s: [s.classes("data/train", a=3, b=3), s.path("data/test/x")],
            "data/test has no class folders; expected a folder of pictures for each class; move the pictures into data/test/CLASS/, one folder a class",
        ),
        Row(
            "a class in the test part alone",
            "fit data",
            lambda s: [s.classes("data/train", cat=3, dog=3), s.classes("data/test", cat=1, dgo=1)],
            'data/test has classes that the training part lacks: "dgo"; expected some of its 2 classes; remove them, or give them training pictures',
        ),
        Row(
            "parts under other names",
            "fit data",
            lambda s: [s.classes("data/Train", a=3, b=3), s.classes("data/Test", a=1, b=1)],
            "data/Train holds folders, so it looks like the training part; expected train, with test and val beside it, in these letters; rename Test to test, Train to train",
        ),
        Row(
            "a class folder that links to a folder above it",
            "fit pictures",
            same_folder_as_class,
            "class folder pictures/all links to a folder that holds it; expected a folder with the pictures of one class; delete the link",
        ),
        Row(
            "a class whose name is no Unicode",
            "fit pictures",
            no_unicode,
            'pictures: a class is called "b\\udcff"; expected a name in Unicode; rename the class',
        ),
        Row(
            "a folder that may not be read",
            "fit pictures",
            closed("pictures"),
            "pictures: permission denied; expected a folder that can be read; let it be read, or move it",
            as_user=True,
        ),
        Row(
            "a class that may not be read",
            "fit pictures",
            closed("pictures/b"),
            "pictures/b: permission denied; expected a folder that can be read; let it be read, or move it",
            as_user=True,
        ),
    ),
)

# --- pictures ----------------------------------------------------------------------------------------------------------


def among_pictures(name, make):
    def arrange(scene):
        scene.classes("pictures", a=3, b=3)
        make(scene.path(f"pictures/b/{name}"))

    return arrange


def truncated(path):
    noise(path)
    path.write_bytes(path.read_bytes()[:1500])


def bomb(scene):
    scene.classes("pictures", a=3, b=3)
    scene.picture("pictures/b/huge.png", side=100)
    scene.patch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)


def all_broken(scene):
    scene.classes("pictures", a=3, b=0)
    scene.text("pictures/b/x.png", "no picture")


def vanishing(scene):
    """Pictures that were there when they were checked are gone when they are learned from."""
    from forktail.data import picture_files
    from forktail.training import engine

    scene.classes("pictures", a=6, b=6)
    begin, decoded = engine.training_stream, picture_files._decoded

    def gone(path):
        return decoded(path if path.parent.name == "a" else path.with_name("gone.png"))

    def later(*rest, **more):
        scene.patch.setattr(picture_files, "_decoded", gone)
        return begin(*rest, **more)

    scene.patch.setattr(engine, "training_stream", later)


PICTURES = Place(
    "pictures",
    "Picture files",
    "Every file is decoded once before training. Grey, 16-bit, CMYK, palettes, transparency (laid on white), EXIF "
    "orientation and animations (their first picture) are no errors. `--set data.unreadable=skip` leaves out what cannot "
    "be decoded, with a note.",
    (
        Row(
            "no picture",
            "fit pictures",
            among_pictures("x.png", lambda p: p.write_text("no picture")),
            '1 picture cannot be read: "pictures/b/x.png (not a picture)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
        Row(
            "an empty file",
            "fit pictures",
            among_pictures("x.png", lambda p: p.touch()),
            '1 picture cannot be read: "pictures/b/x.png (an empty file)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
        Row(
            "a truncated picture",
            "fit pictures",
            among_pictures("x.png", truncated),
            '1 picture cannot be read: "pictures/b/x.png (image file is truncated)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
        Row(
            "a broken link",
            "fit pictures",
            among_pictures("x.png", lambda p: p.symlink_to("nowhere")),
            '1 picture cannot be read: "pictures/b/x.png (no such file or directory)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
        Row(
            "levels without a range",
            "fit pictures",
            among_pictures("x.tif", lambda p: Image.fromarray(np.ones((2, 2), np.float32)).save(p)),
            '1 picture cannot be read: "pictures/b/x.tif (mode F has no range of grey levels)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
        Row(
            "a picture that would fill the memory",
            "fit pictures",
            bomb,
            '1 picture cannot be read: "pictures/b/huge.png (image size … exceeds limit …)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
        Row(
            "a picture that may not be read",
            "fit pictures",
            closed("pictures/b/1.png"),
            '1 picture cannot be read: "pictures/b/1.png (permission denied)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
            as_user=True,
        ),
        Row(
            "no picture of a class can be read",
            "fit pictures --set data.unreadable=skip",
            all_broken,
            'no training images: "b"; left out: 1 picture cannot be read: "pictures/b/x.png (not a picture)"; expected one or more of each class; add images, or delete the class',
        ),
        Row(
            "a picture that vanishes during training",
            "fit pictures --method ce --set plan.epochs=2",
            vanishing,
            "pictures/b/…: no such file or directory; expected the picture that was there when the data were opened; bring it back and give the same command again: what is finished is kept",
            after_notes=True,
            leaves=("runs",),
        ),
        Row(
            "the same in a process that reads ahead",
            "fit pictures --method ce --set plan.epochs=2 --set workers=1",
            vanishing,
            "pictures/b/…: no such file or directory; expected the picture that was there when the data were opened; bring it back and give the same command again: what is finished is kept",
            after_notes=True,
            leaves=("runs",),
        ),
    ),
)

# --- lists -------------------------------------------------------------------------------------------------------------


def listed(*lines, pictures=4):
    return lambda scene: scene.rows("train.txt", *lines, pictures=pictures)


LISTS = Place(
    "list",
    "A list file",
    "`path label` on each line, the label after the last space. A byte order mark, line ends of any system and empty lines are "
    "no errors. No errors, but notes: numbers that are read as names because one label is a word, a picture that stands "
    "twice, a picture in the training and in the test part.",
    (
        Row(
            "an empty list",
            "fit train.txt",
            listed(),
            "train.txt holds no rows; expected a path, a space and a label without spaces on each line",
        ),
        Row(
            "a line without a label",
            "fit train.txt",
            listed("0.png 0", "1.png"),
            'train.txt, line 2: "1.png"; expected a path, a space and a label without spaces on each line; mend or delete the line',
        ),
        Row(
            "commas in place of spaces",
            "fit train.txt",
            listed("0.png,0", "1.png,1"),
            'train.txt, line 1: "0.png,0"; expected a path, a space and a label without spaces on each line; for a list with commas, let its name end in .csv and its first line be path,label',
        ),
        Row(
            "a label with a space",
            "fit train.txt",
            listed("0.png big cat", "1.png dog"),
            "train.txt, line 1: no file 0.png big (1 of 2 files missing); expected paths relative to .; set data.root to the folder to which they are relative; in a list, a label holds no space",
        ),
        Row(
            "a missing picture",
            "fit train.txt",
            listed("0.png 0", "9.png 1"),
            "train.txt, line 2: no file 9.png (1 of 2 files missing); expected paths relative to .; set data.root to the folder to which they are relative",
        ),
        Row(
            "paths relative to another folder",
            "fit lists/train.txt",
            lambda s: [s.picture("pictures/0.png"), s.text("lists/train.txt", "0.png a\n0.png b\n")],
            "lists/train.txt, line 1: no file lists/0.png (2 of 2 files missing); expected paths relative to lists; set data.root to the folder to which they are relative",
        ),
        Row(
            "a negative label",
            "fit train.txt",
            listed("0.png 0", "1.png -1"),
            "train.txt, line 2: label -1; expected 0 or more; delete rows of unknown class, and number classes from 0",
        ),
        Row(
            "classes numbered from 1",
            "fit train.txt",
            listed("0.png 1", "1.png 2"),
            "train: class 0 has no training row, but labels go up to 2; expected every class of 0..C-1 in the training rows; number the classes from 0 without gaps, or give them names",
        ),
        Row(
            "one class",
            "fit train.txt",
            listed("0.png 0", "1.png 0"),
            "train: 1 classes in the training rows; expected two or more; add rows of another class; rows of split train, or without one, are training rows",
        ),
        Row(
            "a picture with two labels",
            "fit train.txt",
            listed("0.png 0", "1.png 1", "./0.png 1"),
            'train.txt, line 3: ./0.png has the label "1", but "0" in train.txt, line 1; expected one label for each picture; delete one of the two rows',
        ),
        Row(
            "not UTF-8",
            "fit train.txt",
            lambda s: s.content("train.txt", "0.png a\n1.png \xe9\n".encode("latin-1")),
            "train.txt, line 2: byte 0x… is no UTF-8; expected a list in UTF-8, a path, a space and a label without spaces on each line; save it as text in UTF-8",
        ),
        Row(
            "UTF-16",
            "fit train.txt",
            lambda s: s.content("train.txt", "0.png a\n".encode("utf-16")),
            "train.txt, line 1: byte 0x… is no UTF-8; expected a list in UTF-8, a path, a space and a label without spaces on each line; save it as text in UTF-8",
        ),
        Row(
            "an archive in place of a list",
            "fit data.zip",
            lambda s: s.content("data.zip", zipped(b"x")),
            "data.zip, line 1: byte 0x… is no UTF-8; expected a list in UTF-8, a path, a space and a label without spaces on each line; save it as text in UTF-8",
        ),
        Row(
            "a NUL in a path",
            "fit train.txt",
            listed("0.png 0", "1\0.png 1"),
            "train.txt, line 2: no file 1\\x00.png (1 of 2 files missing); expected paths relative to .; set data.root to the folder to which they are relative",
        ),
        Row(
            "a test list that is not there",
            "fit train.txt --set data.test=test.txt",
            listed("0.png 0", "1.png 1"),
            "test.txt: no such file or directory; expected a list in UTF-8, a path, a space and a label without spaces on each line",
        ),
        Row(
            "a test label that training lacks",
            "fit train.txt --set data.test=test.txt",
            lambda s: [s.rows("train.txt", "0.png cat", "1.png dog"), s.text("test.txt", "2.png cat\n3.png dgo\n")],
            'test.txt, line 2: the training rows lack the class "dgo"; expected one of their 2 classes; did you mean "dog"?',
        ),
        Row(
            "a list that may not be read",
            "fit train.txt",
            lambda s: locked(s, "train.txt"),
            "train.txt: permission denied; expected a list in UTF-8, a path, a space and a label without spaces on each line",
            as_user=True,
        ),
    ),
)


def locked(scene, name):
    scene.rows(name, "0.png 0", "1.png 1")
    (scene.folder / name).chmod(0)


def zipped(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", content)
    return stream.getvalue()


# --- tables ------------------------------------------------------------------------------------------------------------


def table(*lines, name="set.csv"):
    return lambda scene: scene.rows(name, *lines)


CSV = Place(
    "csv",
    "A CSV or TSV file",
    "The columns `path`, `label` and, if wanted, `split` (train, test or val) in any order, others are passed over. Space "
    "round a field is no part of it.",
    (
        Row(
            "an empty file",
            "fit set.csv",
            table(),
            'set.csv, line 1: columns none; expected path, label and, if wanted, split, separated by commas; there is no column "path": name it in the first line',
        ),
        Row(
            "a header alone",
            "fit set.csv",
            table("path,label"),
            "set.csv holds no rows below its header; expected one for each picture",
        ),
        Row(
            "a missing column",
            "fit set.csv",
            table("file,label", "0.png,a"),
            'set.csv, line 1: columns file, label; expected path, label and, if wanted, split, separated by commas; there is no column "path": name it in the first line',
        ),
        Row(
            "no header",
            "fit set.csv",
            table("0.png,a", "1.png,b"),
            'set.csv, line 1: columns 0.png, a; expected path, label and, if wanted, split, separated by commas; there is no column "path": name it in the first line',
        ),
        Row(
            "semicolons",
            "fit set.csv",
            table("path;label", "0.png;a"),
            'set.csv, line 1: columns path;label; expected path, label and, if wanted, split, separated by commas; there is no column "path": name it in the first line',
        ),
        Row(
            "a column twice",
            "fit set.csv",
            table("path,label,label", "0.png,a,b"),
            "set.csv, line 1: columns path, label, label; expected path, label and, if wanted, split, separated by commas, each once; rename or delete the repeated column",
        ),
        Row(
            "another word for a split",
            "fit set.csv",
            table("path,label,split", "0.png,a,tset"),
            'set.csv, line 2: split "tset"; expected train, test, val; did you mean "test"?',
        ),
        Row(
            "a row with a field more",
            "fit set.csv",
            table("path,label", "0.png,big, red"),
            "set.csv, line 2: 3 fields; expected 2, as in the header; put a field that holds a separator between quotes",
        ),
        Row(
            "a row with a field less",
            "fit set.csv",
            table("path,label", "0.png"),
            "set.csv, line 2: 1 fields; expected 2, as in the header; put a field that holds a separator between quotes",
        ),
        Row(
            "an empty field",
            "fit set.csv",
            table("path,label", "0.png,"),
            "set.csv, line 2: the field label is empty; expected a path and a label",
        ),
        Row(
            "a quote that is not closed",
            "fit set.csv",
            table("path,label", '"0.png,a', "1.png,b"),
            "set.csv, line 3: …; expected a table as spreadsheets write it; close or remove the quotes",
        ),
        Row(
            "a NUL",
            "fit set.csv",
            table("path,label", "0\0.png,a", "1.png,b"),
            "set.csv, line 2: no file 0\\x00.png (1 of 2 files missing); expected paths relative to .; set data.root to the folder to which they are relative",
        ),
        Row(
            "a missing picture",
            "fit set.csv",
            table("path,label", "0.png,a", "9.png,b"),
            "set.csv, line 3: no file 9.png (1 of 2 files missing); expected paths relative to .; set data.root to the folder to which they are relative",
        ),
        Row(
            "no training rows",
            "fit set.csv",
            table("path,label,split", "0.png,a,test"),
            "set: 0 classes in the training rows; expected two or more; add rows of another class; rows of split train, or without one, are training rows",
        ),
        Row(
            "a picture with two labels",
            "fit set.csv",
            table("path,label,split", "0.png,a,train", "1.png,b,train", "0.png,b,test"),
            'set.csv, line 4: 0.png has the label "b", but "a" in set.csv, line 2; expected one label for each picture; delete one of the two rows',
        ),
        Row(
            "not UTF-8",
            "fit set.csv",
            lambda s: s.content("set.csv", b"path,label\n0.png,\xe9\n"),
            "set.csv, line 2: byte 0xe9 is no UTF-8; expected a table in UTF-8 with the columns path, label and, if wanted, split; save it as text in UTF-8",
        ),
    ),
)

# --- arrays ------------------------------------------------------------------------------------------------------------


def arrays(**changes):
    return lambda scene: scene.arrays(**changes)


def damaged_array(scene):
    path = scene.folder / "set.npz"
    np.savez_compressed(path, x_train=np.random.RandomState(0).randint(0, 256, (50, 9, 9)), y_train=np.zeros(50))
    content = bytearray(path.read_bytes())
    content[200:260] = b"\xff" * 60
    path.write_bytes(content)


def carrying_code(scene):
    """An array of Python objects, which numpy stores as a pickle."""

    class Code:
        def __reduce__(self):
            return scene.folder.joinpath("made by the file").mkdir, ()

    scene.arrays(y_train=np.array([Code()] * 12, dtype=object))


X = np.zeros((12, 12, 12), np.uint8)

ARRAYS = Place(
    "arrays",
    "An .npz file",
    "`x_train`, `y_train` and, if wanted, `x_test`, `y_test` and `classes`. Nothing in it is unpickled.",
    (
        Row(
            "no zip file",
            "fit set.npz",
            lambda s: s.text("set.npz", "no zip"),
            "set.npz: it is no archive of arrays, or cut off; expected a whole .npz file without Python objects; write it again with numpy.savez, labels as whole numbers or strings",
        ),
        Row(
            "an empty file",
            "fit set.npz",
            lambda s: s.text("set.npz", ""),
            "set.npz: it is no archive of arrays, or cut off; expected a whole .npz file without Python objects; write it again with numpy.savez, labels as whole numbers or strings",
        ),
        Row(
            "a truncated file",
            "fit set.npz",
            lambda s: [s.arrays(), s.cut("set.npz")],
            "set.npz: it is no archive of arrays, or cut off; expected a whole .npz file without Python objects; write it again with numpy.savez, labels as whole numbers or strings",
        ),
        Row(
            "a damaged array",
            "fit set.npz",
            damaged_array,
            "set.npz: …; expected a whole .npz file without Python objects; write it again with numpy.savez, labels as whole numbers or strings",
        ),
        Row(
            "Python objects",
            "fit set.npz",
            carrying_code,
            "set.npz: it holds Python objects; expected a whole .npz file without Python objects; write it again with numpy.savez, labels as whole numbers or strings",
        ),
        Row(
            "other names",
            "fit set.npz",
            arrays(x_train=None, y_train=None, images=X),
            "set.npz holds images, x_test, y_test, but no x_train; expected x_train, y_train and, if wanted, x_test, y_test, classes; save the arrays under these names",
        ),
        Row(
            "no test labels",
            "fit set.npz",
            arrays(y_test=None),
            "set.npz holds x_test, x_train, y_train, but no y_test; expected x_train, y_train and, if wanted, x_test, y_test, classes; save the arrays under these names",
        ),
        Row(
            "levels from 0 to 1",
            "fit set.npz",
            arrays(x_train=X / 255),
            "set.npz: x_train is float64 (12, 12, 12); expected uint8 (N, H, W) or (N, H, W, 3), no length of 0; bring the levels to 0..255, the channels to the end, and convert with .astype('uint8')",
        ),
        Row(
            "channels first",
            "fit set.npz",
            arrays(x_train=np.zeros((12, 3, 9, 9), np.uint8)),
            "set.npz: x_train is uint8 (12, 3, 9, 9); expected uint8 (N, H, W) or (N, H, W, 3), no length of 0; bring the levels to 0..255, the channels to the end, and convert with .astype('uint8')",
        ),
        Row(
            "pictures of no height",
            "fit set.npz",
            arrays(x_train=X[:, :0], x_test=None, y_test=None),
            "set.npz: x_train is uint8 (12, 0, 12); expected uint8 (N, H, W) or (N, H, W, 3), no length of 0; bring the levels to 0..255, the channels to the end, and convert with .astype('uint8')",
        ),
        Row(
            "test pictures of another size",
            "fit set.npz",
            arrays(x_test=np.zeros((30, 9, 9), np.uint8)),
            "set.npz: pictures of (12, 12) in x_train, (9, 9) in x_test; expected one size and number of channels; bring both to one shape",
        ),
        Row(
            "fewer labels than pictures",
            "fit set.npz",
            arrays(y_train=np.arange(11) % 3),
            "set.npz: y_train is (11,) for 12 pictures; expected (12,), one label for each picture; leave none out",
        ),
        Row(
            "fractional labels",
            "fit set.npz",
            arrays(y_train=np.arange(12) % 3 * 1.0),
            "set.npz: y_train is float64; expected whole numbers from 0, or class names; convert it with .astype('int64') or .astype(str)",
        ),
        Row(
            "one-hot labels",
            "fit set.npz",
            arrays(y_train=np.eye(3)[np.arange(12) % 3]),
            "set.npz: y_train is (12, 3) for 12 pictures; expected (12,), one label for each picture; take .argmax(1) of one-hot labels",
        ),
        Row(
            "a class without a picture",
            "fit set.npz",
            arrays(y_train=np.arange(12) % 3 * 2),
            "set.npz: y_train holds 2, but no 1; expected every class of 0..C-1; number the classes from 0 without gaps, or use names",
        ),
        Row(
            "a label beyond the classes",
            "fit set.npz",
            arrays(y_test=np.arange(30) % 4),
            "set.npz: y_test[3] is 3; expected one of the 3 classes, 0 to 2; mend the label, or add the class to the training part",
        ),
        Row(
            "a class named twice",
            "fit set.npz",
            arrays(classes=np.array(["a", "b", "a"])),
            'set.npz: 3 classes: "a", "b", "a"; expected two or more, all different; name each class once, and give two or more',
        ),
        Row(
            "fewer names than classes",
            "fit set.npz",
            arrays(classes=np.array(["a", "b"])),
            "set.npz: y_train[2] is 2; expected one of the 2 classes, a to b; mend the label, or add the class to the training part",
        ),
        Row(
            "a class name that is no Unicode",
            "fit set.npz",
            arrays(classes=np.array(["a", "b", "c\udcff"])),
            'set.npz: a class is called "c\\udcff"; expected a name in Unicode; rename the class',
        ),
        Row(
            "a class without a name",
            "fit set.npz",
            arrays(classes=np.array(["a", "b", ""])),
            'set.npz: a class is called ""; expected a name in Unicode; rename the class',
        ),
    ),
)

# --- named sets --------------------------------------------------------------------------------------------------------

IDX = "train-images-idx3-ubyte"
FASHION = "fit fashion-mnist --set data.root=fashion"


def idx(name=IDX, content=b"", labels=None):
    def arrange(scene):
        scene.content(f"fashion/{name}", content)
        if labels is not None:
            scene.content("fashion/train-labels-idx1-ubyte", labels)

    return arrange


HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2])


def no_data_anywhere(scene):
    from forktail.data import fashion_mnist, wordnet_gloss

    scene.patch.setenv("FORKTAIL_DATA", "data")
    scene.patch.setattr(fashion_mnist, "DEBIAN", Path("none/usr/share/datasets/fashion-mnist"))
    scene.patch.setattr(wordnet_gloss, "DEBIAN", Path("none/usr/share/wordnet"))


def no_matplotlib(scene):
    scene.patch.setitem(__import__("sys").modules, "matplotlib", None)


WORDNET = "fit wordnet-gloss --set data.root=wordnet"
FETCH_WORDNET = "run `apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet` (Debian, no root) and add `--set data.root=wordnet/usr/share/wordnet`"


def wordnet(**lines):
    """Write the four files, each with one line."""

    def arrange(scene):
        for name in ("noun", "verb", "adj", "adv"):
            scene.text(f"wordnet/data.{name}", f"{lines.get(name, '1 05 n 01 dog 0 000 | a domestic animal')}\n")

    return arrange


NAMED = Place(
    "named sets",
    "fashion-mnist, glyphs, symbols and wordnet-gloss",
    "`fashion-mnist` is read from `data.root`, from `$FORKTAIL_DATA/fashion-mnist` or where Debian's package puts it; `glyphs` "
    "is part of the package; `symbols` is drawn with the fonts of matplotlib; `wordnet-gloss` is read from `data.root`, from "
    "`$FORKTAIL_DATA/wordnet` or where Debian's package puts it.",
    (
        Row(
            "not installed",
            "fit fashion-mnist",
            no_data_anywhere,
            "fashion-mnist: no data/fashion-mnist and no none/usr/share/datasets/fashion-mnist; expected the folder of its four files; run `apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion` (Debian, no root) and add `--set data.root=fashion/usr/share/datasets/fashion-mnist`",
        ),
        Row(
            "a file missing",
            FASHION,
            lambda s: s.text("fashion/readme", ""),
            "fashion-mnist: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in fashion; expected its four idx files; run `apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion` (Debian, no root) and add `--set data.root=fashion/usr/share/datasets/fashion-mnist`",
        ),
        Row(
            "another file of that name",
            FASHION,
            idx(content=b"no idx file"),
            "fashion/train-images-idx3-ubyte begins with 6e6f2069; expected an idx file of bytes with 3 axes; fetch the file again, it is damaged",
        ),
        Row(
            "an empty file",
            FASHION,
            idx(),
            "fashion/train-images-idx3-ubyte begins with nothing; expected an idx file of bytes with 3 axes; fetch the file again, it is damaged",
        ),
        Row(
            "a truncated file",
            FASHION,
            idx(content=HEADER + b"1234567"),
            "fashion/train-images-idx3-ubyte holds 7 bytes; expected 2 x 2 x 2; fetch the file again, it is damaged",
        ),
        Row(
            "lengths below 0",
            FASHION,
            idx(content=HEADER[:4] + b"\xff" * 12 + b"\0"),
            "fashion/train-images-idx3-ubyte holds 1 bytes; expected -1 x -1 x -1; fetch the file again, it is damaged",
        ),
        Row(
            "a truncated gzip file",
            FASHION,
            idx(f"{IDX}.gz", gzip.compress(HEADER)[:20]),
            "fashion/train-images-idx3-ubyte.gz: …; expected a whole idx file, or one compressed with gzip; fetch the file again, it is damaged",
        ),
        Row(
            "fewer labels than pictures",
            FASHION,
            idx(content=HEADER + b"12345678", labels=bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])),
            "fashion: 2 pictures and 1 labels up to 7 in train; expected as many labels as pictures, 0 to 9; fetch the file again, it is damaged",
        ),
        Row(
            "symbols without matplotlib",
            "pretrain symbols --out pre",
            no_matplotlib,
            "matplotlib, whose fonts are drawn, is not installed; run `pip install forktail[symbols]`",
        ),
        Row(
            "WordNet is not installed",
            "fit wordnet-gloss",
            no_data_anywhere,
            f"wordnet-gloss: no data/wordnet and no none/usr/share/wordnet; expected the folder of WordNet's data files; {FETCH_WORDNET}",
        ),
        Row(
            "a file of WordNet missing",
            WORDNET,
            lambda s: s.text("wordnet/data.noun", ""),
            f"wordnet-gloss: no data.verb in wordnet; expected data.noun, data.verb, data.adj, data.adv; {FETCH_WORDNET}",
        ),
        Row(
            "a line that is none of WordNet's",
            WORDNET,
            wordnet(verb="1 45 v 01 run 0 000 | move fast"),
            f"wordnet/data.verb:1: 1 45 v 01 run 0 000 | move fast; expected offset, class 0 to 44, words, a bar and a definition; {FETCH_WORDNET}",
        ),
        Row(
            "a class with too few definitions",
            WORDNET,
            wordnet(),
            f"wordnet: 0 definitions of adj.all; expected 36 or more, as in WordNet 3.0; {FETCH_WORDNET}",
        ),
        Row(
            "a tail for a set that has one",
            "fit wordnet-gloss --set data.imbalance=10",
            lambda s: None,
            'data.imbalance has no meaning for "wordnet-gloss", which has a long tail by nature; expected data.n_max alone; leave out data.imbalance',
        ),
    ),
)
