"""Miniatures of datasets: the real layout and the real formats, with a few synthetic clips.

Each maker writes annotations and media below a folder and returns both. Lines end, are quoted and
are spelled as in the real files.
"""

import gzip
import importlib
import json
import shutil
import struct
import wave
from argparse import Namespace
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any

import numpy as np

from avmix.recipes import CLASS_LISTS
from tests.media import write_flash_beep

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared/data"
YT = "-abc_DEF-12"
"""An id of YouTube, eleven characters, that begins with a hyphen and has an underscore."""


def load_recipe(name: str) -> ModuleType:
    """The module of a dataset."""
    return importlib.import_module(f"avmix.recipes.{name}")


def options(annotations: Path, media: Path | None = None, *wanted: str, **more: Any) -> Namespace:
    return Namespace(annotations=annotations, media=media, protocol=list(wanted) or None,
                     workers=1, **more)  # fmt: skip


@lru_cache
def _made(ending: str, audio: bool) -> Path:
    """Ten seconds of small frames, with audio or without."""
    path = Path(mkdtemp(prefix="avmix_recipes_")) / f"clip{ending}"
    codec = {".flv": "aac"}.get(ending, "") if audio else None
    return write_flash_beep(path, fps=5, seconds=10, size=(64, 48), audio_codec=codec)


def put(path: Path, *, audio: bool = True) -> Path:
    """A clip at this place; every mp4 has other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_made(path.suffix.lower(), audio), path)
    if path.suffix.lower() == ".mp4":
        with path.open("ab") as file:  # an empty box with the name of the file in it
            name = path.as_posix().encode()
            file.write(struct.pack(">I4s", 8 + len(name), b"free") + name)
    return path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def make_ucf101(root: Path) -> tuple[Path, Path]:
    """Two classes and the one that is spelled in two ways; one clip of a class without audio."""
    lists, media = root / "ucfTrainTestlist", root / "UCF-101"
    classes = (CLASS_LISTS / "ucf101.txt").read_text().split()
    numbered = "".join(f"{n} {name}\r\n" for n, name in enumerate(classes, 1))
    write(lists / "classInd.txt", numbered)
    train = ["Archery/v_Archery_g08_c01.avi 3", "Basketball/v_Basketball_g08_c01.avi 8",
             "HandstandPushups/v_HandStandPushups_g08_c01.avi 37"]  # fmt: skip
    test = ["Archery/v_Archery_g01_c01.avi", "Basketball/v_Basketball_g01_c01.avi",
            "HandstandPushups/v_HandStandPushups_g01_c01.avi"]  # fmt: skip
    for number in (1, 2, 3):
        write(lists / f"trainlist0{number}.txt", "".join(f"{row}\r\n" for row in train))
        write(lists / f"testlist0{number}.txt", "".join(f"{row}\r\n" for row in test))
    for row in train + test:
        put(media / row.split()[0], audio="Basketball" not in row)
    folder = media / "HandstandPushups"
    (folder / "v_HandStandPushups_g01_c01.avi").rename(folder / "v_HandstandPushups_g01_c01.avi")
    return lists, media


def make_hmdb51(root: Path) -> tuple[Path, Path]:
    """Two classes; one name begins with "#", and one film has clips of both classes."""
    lists, media = root / "testTrainMulti_7030_splits", root / "hmdb51"
    rows = {
        "brush_hair": [("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", 1),
                       ("#14_brush!_&_(x)_[y]_brush_hair_h_cm_np1_fr_med_3.avi", 2),
                       ("sarah_brush_hair_u_nm_np1_ri_goo_0.avi", 0)],
        "wave": [("April_09_wave_f_nm_np1_fr_med_1.avi", 2),
                 ("20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi", 1)],
    }  # fmt: skip
    for label, named in rows.items():
        for number in (1, 2, 3):
            lines = "".join(f"{name} {kind} \n" for name, kind in named)
            write(lists / f"{label}_test_split{number}.txt", lines)
        for name, _ in named:
            put(media / label / name, audio=False)
    return lists, media


KINETICS_HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def make_kinetics(root: Path) -> tuple[Path, Path]:
    """Two classes: a clip of each layout, one that is broken and replaced, test labels withheld."""
    lists, media = root / "annotations", root / "k400"
    train = [f"abseiling,{YT},20,30,train,0",
             '"petting animal, not cat",0wR5jVB-WPk,417,427,train,0',
             "abseiling,3caPS4FHFF8,36,46,train,0"]  # fmt: skip
    write(lists / "train.csv", KINETICS_HEADER + "\n".join(train) + "\n")
    write(lists / "val.csv", KINETICS_HEADER + "abseiling,3yaoNwz99xM,62,72,val,1\n")
    write(lists / "test.csv", "youtube_id,time_start,time_end,split\nzzz_zzz-zzz,1,11,test\n")
    put(media / f"train/{YT}_000020_000030.mp4")
    put(media / "petting animal, not cat/0wR5jVB-WPk_000417_000427.mp4")
    write(media / "train/3caPS4FHFF8_000036_000046.mp4", b"\0" * 5000)
    put(media / "replacement_for_corrupted_k400/3caPS4FHFF8_000036_000046.mp4")
    put(media / "val/3yaoNwz99xM_000062_000072.mp4", audio=False)
    return lists, media


def make_kinetics_sounds(root: Path) -> tuple[Path, Path]:
    """Lists of three publications about the same few clips, ids in two styles."""
    lists, media = root / "lists", root / "k400"
    write(lists / "my_train.txt", f"{YT}_000020_000030,10,2\r\n_23456789ab_000417_000427,10,26\r\n")
    write(lists / "my_test.txt", "abcdefghijk_62,10,2\nmissing-123_5,10,27\n")
    labels = (CLASS_LISTS / "kinetics_sounds.txt").read_text().splitlines()
    labels.remove("strumming guitar")
    database = {
        f"{YT}_000020_000030": {"subset": "training", "label": "bowling"},
        "_23456789ab_000417_000427": {"subset": "training", "label": "stomping grapes"},
        "VVVVVVVVVVV_000001_000011": {"subset": "validation", "label": "bowling"},
    }
    write(lists / "KS_train_val.json", json.dumps({"labels": labels, "database": database}))
    write(lists / "train_data_path.csv", f"train/{YT}_000020_000030.mp4,2\n"
          "train/_23456789ab_000417_000427.mp4,27\n")  # fmt: skip
    write(lists / "val_data_path.csv", "val/VVVVVVVVVVV_000001_000011.mp4,2\n")
    write(lists / "test_data_path.csv", "test/abcdefghijk_000062_000072.mp4,2\n")
    put(media / f"train/{YT}_000020_000030.mp4")
    put(media / "train/_23456789ab_000417_000427.mp4")
    put(media / "test/abcdefghijk_000062_000072.mp4")
    put(media / "val/VVVVVVVVVVV_000001_000011.mp4")
    return lists, media


def make_vggsound(root: Path) -> tuple[Path, Path]:
    """The csv without a header, quoted labels, a row and a list with the 310th class."""
    lists, media = root / "vggsound", root / "video"
    rows = [f'{YT},30,"bee, wasp, etc. buzzing",train', "bbbbbbbbbbb,1,wave,train",
            "ccccccccccc,10,tap dancing,train", 'ddddddddddd,0,"bee, wasp, etc. buzzing",test',
            "eeeeeeeeeee,5,extending ladders,train"]  # fmt: skip
    write(lists / "vggsound.csv", "\n".join(rows) + "\n")
    classes = (CLASS_LISTS / "vggsound.txt").read_text().splitlines()
    every = [*classes, "extending ladders"]
    quoted = [f'"{name}",{n}\n' if "," in name else f"{name},{n}\n" for n, name in enumerate(every)]
    write(lists / "labels.csv", "".join(quoted))
    put(media / f"{YT}_000030.mp4")
    put(media / "ccccccccccc_10000_20000.mp4", audio=False)
    put(media / "any/ddddddddddd.mkv")
    return lists, media


def make_ave(root: Path) -> tuple[Path, Path]:
    """Two events of one video, and a video each that test and val share with train."""
    lists, media = root / "AVE_Dataset", root / "AVE_Dataset"
    train = ["Church bell&RUhOCu3LNXM&good&0&10", "Male speech, man speaking&both_splits&good&2&7",
             "Bark&both_splits&good&0&3", "Church bell&val_as_well&good&0&10"]  # fmt: skip
    train += ["Male speech, man speaking&RUhOCu3LNXM&good&3&5"]
    write(lists / "trainSet.txt", "\n".join(train) + "\n")
    write(lists / "valSet.txt", "Church bell&val_as_well&good&0&10\n")
    write(lists / "testSet.txt", "Male speech, man speaking&both_splits&good&2&7\n"
          "Church bell&-test_only&good&1&4\n")  # fmt: skip
    for name in ("RUhOCu3LNXM", "both_splits", "val_as_well", "-test_only"):
        put(media / f"AVE/{name}.mp4")
    return lists, media


CREMA_ACTORS = range(1001, 1021)


def make_crema_d(root: Path) -> tuple[Path, Path]:
    """Twenty actors, two clips each, one of them in each list of OGM-GE: all of them in both."""
    lists, media = root / "CREMA-D", root / "CREMA-D"
    people = [f'{actor},{actor - 980},"{"Male" if actor % 2 else "Female"}","Asian","Hispanic"\n'
              for actor in CREMA_ACTORS]  # fmt: skip
    header = '"ActorID","Age","Sex","Race","Ethnicity"\n'
    write(lists / "VideoDemographics.csv", header + "".join(people))
    named = [(actor, emotion, f"{actor}_IEO_{emotion}_HI")
             for actor in CREMA_ACTORS for emotion in ("ANG", "NEU")]  # fmt: skip
    numbered = "".join(f'{n},"{name}"\n' for n, (_, _, name) in enumerate(named, 1))
    write(lists / "SentenceFilenames.csv", '"Stimulus_Number","Filename"\n' + numbered)
    # Train has the angry half of the first ten actors and the neutral half of the others.
    first = {"train": "\ufeff", "test": ""}  # a byte order mark, as in stat.csv of these lists
    for split, text in first.items():
        text += "".join(
            f"{name},{emotion}\n"
            for actor, emotion, name in named
            if ((emotion == "ANG") == (actor < 1011)) == (split == "train")
        )
        write(lists / f"{split}.csv", text)
    for _, _, name in named:
        put(media / f"VideoFlash/{name}.flv")
        write(media / f"AudioWAV/{name}.wav", b"RIFF not used")
    return lists, media


def make_vggsounder(root: Path) -> tuple[Path, Path]:
    """Two clips with three labels; a label that is none, one given twice, a modality, a name."""
    lists, media = root / "vggsounder/data", root / "vggsound/video"
    text = "video_id,label,modality,background_music,static_image,voice_over\n"
    rows = [
        f'{YT}_000030,"child speech, kid speaking",AV,False,False,True',
        "x_y-z_012345_000007,ambulance siren,A,False,False,False",
        f"{YT}_000030,male singing,A,False,False,True",
        f"{YT}_000030,dog barking,V,False,False,True",
        f"{YT}_000030,male singing,AV,False,False,True",
        f"{YT}_000030,no such class,A,False,False,True",
        f"{YT}_000030,ambulance siren,X,False,False,True",
        "name,ambulance siren,A,False,False,True",
    ]
    write(lists / "vggsounder.csv", text + "\n".join(rows) + "\n")
    more = f"{YT}_000040,ambulance siren,AV,True,False,False"
    write(lists / "vggsounder+background-music.csv", text + "\n".join([*rows[:2], more]) + "\n")
    for name in (f"{YT}_000030", "x_y-z_012345_000007", f"{YT}_000040"):
        put(media / f"{name}.mp4")
    return lists, media


EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)


def make_epic_kitchens_100(root: Path) -> tuple[Path, Path]:
    """Two videos, one for each split, with three stretches; a row that begins after the end."""
    lists, media = root / "epic-kitchens-100-annotations", root / "EPIC-KITCHENS"
    train = ["P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,"
             "3,['door'],[3]",
             "P01_01_1,P01,P01_01,00:00:02.629,00:00:04.37,00:00:06.17,262,370,take knife and "
             "plate,take,0,knife,4,\"['knife', 'plate']\",\"[4, 2]\"",
             "P01_01_9,P01,P01_01,00:01:02.629,00:01:04.37,00:01:06.17,262,370,open door,open,3,"
             "door,3,['door'],[3]"]  # fmt: skip
    val = ["P02_01_0,P02,P02_01,00:00:01.0,00:00:00.5,00:00:02.5,8,202,take knife,take,0,knife,4,"
           "['knife'],[4]",
           "P02_01_1,P02,P02_01,00:00:03.0,00:00:03.5,00:00:05.5,8,202,open door,open,3,door,3,"
           "['door'],[3]"]  # fmt: skip
    write(lists / "EPIC_100_train.csv", EPIC_HEADER + "\n".join(train) + "\n")
    write(lists / "EPIC_100_validation.csv", EPIC_HEADER + "\n".join(val) + "\n")
    write(
        lists / "EPIC_100_test_timestamps.csv",
        "narration_id,participant_id,video_id\nP03_1,P03,x\n",
    )
    write(
        lists / "EPIC_100_video_info.csv",
        "video_id,duration,fps,resolution\nP01_01,10.0,59.94,1920x1080\nP02_01,10.0,50,1920x1080\n",
    )
    write(lists / "EPIC_100_verb_classes.csv", "id,key,instances,category\n"
          "0,take,\"['collect-from', 'fetch']\",retrieve\n3,open,['open'],access\n")  # fmt: skip
    write(lists / "EPIC_100_noun_classes_v2.csv", "id,key,instances,category\n"
          "3,door,['door'],furniture\n4,knife,['knife'],utensils\n")  # fmt: skip
    put(media / "P01/videos/P01_01.MP4")
    put(media / "P02/P02_01.MP4")
    return lists, media


AUDIOSET_HEADER = """\
# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=2, num_segs=2, num_unique_labels=2, num_positive_labels=3
# YTID, start_seconds, end_seconds, positive_labels
"""


def make_audioset(root: Path) -> tuple[Path, Path]:
    """Two clips to train on, one to test; a mid that no class has."""
    lists, media = root / "csv", root / "audioset"
    write(lists / "class_labels_indices.csv", 'index,mid,display_name\n0,/m/09x0r,"Speech"\n'
          '1,/m/05zppz,"Male speech, man speaking"\n2,/m/04rlf,"Music"\n')  # fmt: skip
    write(lists / "balanced_train_segments.csv", AUDIOSET_HEADER
          + f'{YT}, 30.000, 40.000, "/m/09x0r,/m/05zppz"\n'
          + 'bbbbbbbbbbb, 0.000, 10.000, "/m/04rlf,/t/dd00099"\n'
          + 'ccccccccccc, 0.000, 10.000, "/t/dd00099"\n')  # fmt: skip
    write(lists / "eval_segments.csv", AUDIOSET_HEADER + 'eeeeeeeeeee, 5.000, 15.000, "/m/09x0r"\n')
    put(media / f"balanced/{YT}_30.000_40.000.mp4")
    put(media / "balanced/bbbbbbbbbbb.mp4")
    put(media / "eval/eeeeeeeeeee_5000_15000.mp4")
    return lists, media


def make_av_mnist(root: Path) -> tuple[Path, Path]:
    """Two dozen images of two digits, in gzipped IDX files, and spoken digits of two speakers."""
    lists = root / "downloads"
    images = np.random.default_rng(0).integers(0, 255, (24, 28, 28), np.uint8)
    labels = np.arange(24, dtype=np.uint8) % 2
    for kind, count in (("train", 24), ("t10k", 4)):
        shape = struct.pack(">4I", 0x803, count, 28, 28)
        data = gzip.compress(shape + images[:count].tobytes(), mtime=0)
        write(lists / f"{kind}-images-idx3-ubyte.gz", data)
        data = struct.pack(">2I", 0x801, count) + labels[:count].tobytes()
        write(lists / f"{kind}-labels-idx1-ubyte.gz", gzip.compress(data, mtime=0))
    for speaker in ("theo", "nicolas"):
        for digit in (0, 1):
            for take in (0, 7, 12):
                path = lists / f"recordings/{digit}_{speaker}_{take}.wav"
                path.parent.mkdir(exist_ok=True)
                with wave.open(str(path), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    tone = np.sin(np.arange(4000) * (digit + 1) * 0.3 + take) * 8000
                    file.writeframes(tone.astype("<i2").tobytes())
    return lists, root / "clips"


def make_folder(root: Path) -> tuple[Path, Path]:
    """A table with stretches of two files, written by a spreadsheet."""
    media = root / "my clips"
    for name in ("a/één.mp4", "a/two.mp4", "b/three.mp4"):
        put(media / name)
    rows = ["Path;Label;Start;End;Split;Source", "a/één.mp4;jumping;0;4;train;one",
            "a/één.mp4;running;5;9;train;one", "a/two.mp4;jumping|running;;;test;two",
            "b/three.mp4;running;;;val;three", ";;;;;"]  # fmt: skip
    table = write(root / "clips.csv", b"\xef\xbb\xbf" + "\r\n".join(rows).encode() + b"\r\n")
    return table, media


MAKERS = {name.removeprefix("make_"): maker for name, maker in list(globals().items())
          if name.startswith("make_")}  # fmt: skip
