"""Every recipe on a miniature of its dataset: its annotations row by row, then the manifest."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from avmix.data.manifest import read_manifest, splits_of
from avmix.prepare.annotation_rows import AnnotationError
from avmix.prepare.annotations import Annotations, in_two_splits
from avmix.prepare.command import run_recipe
from avmix.prepare.media_folder import scan
from avmix.prepare.pipeline import files_of
from avmix.prepare.protocol import Expected, Protocol
from avmix.types import Entry
from tests.recipes_media import (
    CREMA_ACTORS,
    KINETICS_HEADER,
    MAKERS,
    ROOT,
    SHARED,
    YT,
    load_recipe,
    options,
    write,
)


def made(name: str, root: Path, *wanted: str) -> dict[str, Protocol]:
    """The protocols of a miniature, by name."""
    annotations, media = MAKERS[name](root)
    found = load_recipe(name).protocols(options(annotations, media, *wanted))
    assert len({protocol.name for protocol in found}) == len(found)
    return {protocol.name: protocol for protocol in found}


def rows(protocol: Protocol) -> list[tuple[str, str, tuple[str, ...], str]]:
    return [(c.clip_id, c.split, c.labels, c.source_id) for c in protocol.expected]


def said(protocol: Protocol) -> list[tuple[str, str, bool]]:
    return [(p.where, p.reason, p.dropped) for p in protocol.problems]


def clip_of(protocol: Protocol, clip_id: str) -> Expected:
    return next(clip for clip in protocol.expected if clip.clip_id == clip_id)


def test_ucf101(tmp_path: Path) -> None:
    found = made("ucf101", tmp_path)
    splits = [f"ucf101/{audio}split{n}" for audio in ("", "sound51_") for n in (1, 2, 3)]
    assert list(found) == splits
    every, heard = found["ucf101/split1"], found["ucf101/sound51_split1"]
    assert (len(every.classes), len(heard.classes)) == (101, 51)
    assert not every.needs_audio
    assert heard.needs_audio
    archery, hands = ("Archery",), ("HandstandPushups",)
    expected = [
        ("v_Archery_g08_c01", "train", archery, "v_Archery_g08"),
        ("v_Basketball_g08_c01", "train", ("Basketball",), "v_Basketball_g08"),
        ("v_HandStandPushups_g08_c01", "train", hands, "v_HandStandPushups_g08"),
        ("v_Archery_g01_c01", "test", archery, "v_Archery_g01"),
        ("v_Basketball_g01_c01", "test", ("Basketball",), "v_Basketball_g01"),
        ("v_HandStandPushups_g01_c01", "test", hands, "v_HandStandPushups_g01"),
    ]
    assert rows(every) == expected
    assert rows(heard) == [row for row in expected if row[2] != ("Basketball",)]
    clip = clip_of(every, "v_HandStandPushups_g01_c01")
    assert clip.where == "testlist01.txt:3"
    assert clip.names == ("HandstandPushups/v_HandStandPushups_g01_c01.avi",
                          "v_HandStandPushups_g01_c01.avi", "v_HandStandPushups_g01_c01",
                          "v_HandstandPushups_g01_c01")  # fmt: skip
    assert every.published == {"train": 9537, "test": 3783}
    assert not every.problems
    assert not every.leaks


def test_ucf101_rows_that_contradict_themselves(tmp_path: Path) -> None:
    annotations, media = MAKERS["ucf101"](tmp_path)
    write(annotations / "trainlist01.txt",
          b"\xef\xbb\xbfArchery/v_Archery_g08_c01.avi 4\r\n\r\n"
          b"Archerry/v_Archerry_g08_c02.avi 3\r\n"
          b"Archery/v_Archery_g08_c03.avi 3\r\nArchery/v_Archery_g08_c03.avi 3\r\nnonsense\r\n"
          b"../Archery/v_Archery_g08_c04.avi 3\r\n")  # fmt: skip
    protocol = load_recipe("ucf101").protocols(options(annotations, media))[0]
    assert [c.clip_id for c in protocol.expected if c.split == "train"] == ["v_Archery_g08_c03"]
    assert said(protocol) == [
        ("trainlist01.txt:1", "Archery is class 3 of classInd.txt, not 4", True),
        ("trainlist01.txt:3", "label 'Archerry' is not one of the 101 classes; did you mean "
         "'Archery'?", True),
        ("trainlist01.txt:5", "duplicate row: as trainlist01.txt:4", True),
        ("trainlist01.txt:6", "not Class/v_Class_gNN_cNN.avi", True),
        ("trainlist01.txt:7", "not Class/v_Class_gNN_cNN.avi", True),
    ]  # fmt: skip


def test_hmdb51(tmp_path: Path) -> None:
    found = made("hmdb51", tmp_path)
    assert list(found) == [f"hmdb51/split{n}{end}" for n in (1, 2, 3) for end in ("", "/disjoint")]
    protocol = found["hmdb51/split2"]
    assert protocol.classes == ("brush_hair", "wave")
    hair, wave = ("brush_hair",), ("wave",)
    odd = "#14_brush!_&_(x)_[y]_brush_hair_h_cm_np1_fr_med_3"
    bart = "20060723sfjffbartsinger"
    assert rows(protocol) == [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "train", hair, "April_09"),
        (f"brush_hair/{odd}", "test", hair, "#14_brush!_&_(x)_[y]"),
        ("wave/April_09_wave_f_nm_np1_fr_med_1", "test", wave, "April_09"),
        (f"wave/{bart}_wave_f_cm_np1_ba_med_0", "train", wave, bart),
    ]  # fmt: skip
    assert clip_of(protocol, f"brush_hair/{odd}").names[0] == f"brush_hair/{odd}.avi"
    assert protocol.leaks == "of 3 films, 1 in train and test, as published"
    assert f"{hair[0]}/April_09_brush_hair_u_nm_np1_ba_goo_0" not in {
        c.clip_id for c in found["hmdb51/split2/disjoint"].expected}  # fmt: skip
    assert not protocol.needs_audio
    assert not protocol.problems


def test_kinetics(tmp_path: Path) -> None:
    protocol = made("kinetics", tmp_path, "kinetics/400")["kinetics/400"]
    petting = "petting animal, not cat"
    assert protocol.classes == ("abseiling", petting)
    assert rows(protocol) == [
        (f"{YT}_000020_000030", "train", ("abseiling",), YT),
        ("0wR5jVB-WPk_000417_000427", "train", (petting,), "0wR5jVB-WPk"),
        ("3caPS4FHFF8_000036_000046", "train", ("abseiling",), "3caPS4FHFF8"),
        ("3yaoNwz99xM_000062_000072", "val", ("abseiling",), "3yaoNwz99xM"),
    ]
    clip = protocol.expected[1]
    assert clip.names == (
        "replacement_for_corrupted_k400/0wR5jVB-WPk_000417_000427.mp4",
        "train/0wR5jVB-WPk_000417_000427.mp4",
        f"{petting}/0wR5jVB-WPk_000417_000427.mp4",
    )
    assert (clip.video, clip.cut_seconds) == ("0wR5jVB-WPk", (417, 427))
    assert clip.seconds == 10
    assert clip.where == "train.csv:3"
    assert said(protocol) == [
        ("test.csv", "1 rows without labels: not used", True),
        ("annotations", "2 classes; kinetics/400 has 400", False),
    ]
    assert protocol.published == {"train": 246_534, "val": 19_906, "test": 39_805}


def test_the_release_of_kinetics_is_counted_and_typos_are_no_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, media = MAKERS["kinetics"](tmp_path)
    recipe = load_recipe("kinetics")
    with pytest.raises(AnnotationError, match=r"2 classes, not 400, 600 or 700; say which"):
        recipe.protocols(options(annotations, media))
    monkeypatch.setitem(recipe.NUM_CLASSES, "kinetics/600", 30)
    # Of Kinetics-600 the .txt is whole and the .csv is not: the latter is not read.
    lines = [f"class {k % 30},{k:011d},1,11,train" for k in range(150)]
    lines += ["clas 7,xxxxxxxxxxx,1,11,train", "class 8,yyyyyyyyyyy,11,1,train",
              "class 8,zzzzzzzzzzz,one,11,train"]  # fmt: skip
    write(annotations / "train.txt", "label,youtube_id,time_start,time_end,split\n"
          + "\n".join(lines) + "\n")  # fmt: skip
    (annotations / "val.csv").unlink()
    (protocol,) = recipe.protocols(options(annotations, media))
    assert protocol.name == "kinetics/600"
    assert len(protocol.expected) == 150
    assert said(protocol)[1:] == [
        ("train.txt:152", "label 'clas 7' is not one of the 30 classes; did you mean 'class 7'?",
         True),
        ("train.txt:153", "from 11 s to 1 s is no stretch of time", True),
        ("train.txt:154", "time_start 'one' is not a number", True),
    ]  # fmt: skip


def test_kinetics_sounds(tmp_path: Path) -> None:
    found = made("kinetics_sounds", tmp_path)
    assert {name.partition("/")[2] for name in found} == {"ogm", "ogm_val", "bml_val",
                                                          "av_superb_32"}  # fmt: skip
    assert all(protocol.needs_audio for protocol in found.values())
    first = (f"{YT}_000020_000030", "train", ("bowling",), YT)
    grapes = ("_23456789ab_000417_000427", "train", ("stomping grapes",), "_23456789ab")
    strummed = (*grapes[:2], ("strumming guitar",), grapes[3])
    val = ("VVVVVVVVVVV_000001_000011", "val", ("bowling",), "VVVVVVVVVVV")
    test = ("abcdefghijk_000062_000072", "test", ("bowling",), "abcdefghijk")
    # Index 27 of 31 is tap dancing, of 32 strumming guitar.
    other = ("missing-123_000005_000015", "test", ("tap dancing",), "missing-123")
    assert rows(found["kinetics_sounds/ogm"]) == [first, grapes, test, other]
    assert rows(found["kinetics_sounds/ogm_val"]) == [first, grapes, val, test, other]
    assert rows(found["kinetics_sounds/bml_val"]) == [first, grapes, val]
    assert rows(found["kinetics_sounds/av_superb_32"]) == [first, strummed, val, test]
    assert len(found["kinetics_sounds/ogm"].classes) == 31
    assert len(found["kinetics_sounds/av_superb_32"].classes) == 32
    names = clip_of(found["kinetics_sounds/ogm"], test[0]).names
    assert names[1] == "test/abcdefghijk_000062_000072.mp4"
    assert clip_of(found["kinetics_sounds/ogm"], test[0]).cut_seconds == (62, 72)


def test_kinetics_sounds_lists_that_are_wrong_or_missing(tmp_path: Path) -> None:
    recipe = load_recipe("kinetics_sounds")
    # Without the second column the index is 6 of the other format: mowing lawn.
    write(tmp_path / "my_train.txt", f"{YT}_000020_000030,10,31\nshort_5,10,2\n{YT}_7,6\n")
    write(tmp_path / "my_test.txt", f"{YT}_9,10,1")
    (protocol,) = recipe.protocols(options(tmp_path))
    assert said(protocol) == [
        ("my_train.txt:1", "class 31 of 31", True),
        ("my_train.txt:2", "neither ID_000030_000040 nor ID_30", True),
    ]
    assert [clip.labels for clip in protocol.expected] == [
        ("mowing lawn",), ("blowing out candles",)]  # fmt: skip
    with pytest.raises(AnnotationError, match=r"no KS\.json in it; it has: my_test\.txt"):
        recipe.protocols(options(tmp_path, None, "kinetics_sounds/bml"))
    with pytest.raises(AnnotationError, match=r"has none of: KS\.json"):
        recipe.protocols(options(_empty(tmp_path)))


def _empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def test_vggsound(tmp_path: Path) -> None:
    protocol = made("vggsound", tmp_path)["vggsound"]
    assert len(protocol.classes) == 309
    bees = ("bee, wasp, etc. buzzing",)
    assert rows(protocol) == [
        (f"{YT}_000030", "train", bees, YT),
        ("ccccccccccc_000010", "train", ("tap dancing",), "ccccccccccc"),
        ("ddddddddddd_000000", "test", bees, "ddddddddddd"),
    ]
    assert protocol.expected[0].seconds == 10
    assert protocol.expected[1].video == "ccccccccccc"
    assert protocol.expected[1].cut_seconds == (10, 20)
    reasons = said(protocol)
    assert reasons[0] == ("vggsound.csv:2", "label 'wave' is not one of the 309 classes", True)
    assert reasons[1:] == [
        ("vggsound.csv:5", "'extending ladders' is no class of VGGSound: nothing of it is in the "
         "test", True),
        ("labels.csv", "310 lines, and VGGSound has 309 classes: not used; no class is: extending "
         "ladders", False),
    ]  # fmt: skip


def test_official_lists_with_videos_in_several_splits_are_no_dead_end(tmp_path: Path) -> None:
    rows_of = ["9wW-losmGws,30,playing washboard,train", "9wW-losmGws,97,tap dancing,test",
               "ccccccccccc,10,tap dancing,train", "ccccccccccc,10,tap dancing,test",
               f"{YT},1,tap dancing,train"]  # fmt: skip
    write(tmp_path / "v/vggsound.csv", "\n".join(rows_of) + "\n")
    official, disjoint = load_recipe("vggsound").protocols(options(tmp_path / "v"))
    assert (official.name, disjoint.name) == ("vggsound", "vggsound/disjoint")
    assert official.leaks == "of 3 videos, 2 in train and test, as published"
    assert not disjoint.leaks
    assert [(c.clip_id, c.split) for c in official.expected] == [
        ("9wW-losmGws_000030", "train"), ("9wW-losmGws_000097", "test"),
        ("ccccccccccc_000010", "train"), ("ccccccccccc_000010/test", "test"),
        (f"{YT}_000001", "train")]  # fmt: skip
    assert [(c.clip_id, c.split) for c in disjoint.expected] == [
        ("9wW-losmGws_000097", "test"), ("ccccccccccc_000010/test", "test"),
        (f"{YT}_000001", "train")]  # fmt: skip
    assert said(disjoint) == [
        ("vggsound.csv:1", "9wW-losmGws_000030: 9wW-losmGws is in test, too", True),
        ("vggsound.csv:3", "ccccccccccc_000010: ccccccccccc is in test, too", True)]  # fmt: skip

    lists = tmp_path / "k"  # Kinetics-600 has videos in val and test
    for split, ids in {"train": "aaaaaaaaaaa bbbbbbbbbbb", "val": "ccccccccccc ddddddddddd",
                       "test": "ddddddddddd"}.items():  # fmt: skip
        lines = (f"abseiling,{video},1,11,{split},0\n" for video in ids.split())
        write(lists / f"{split}.csv", KINETICS_HEADER + "".join(lines))
    asked = options(lists, None, "kinetics/600/disjoint")
    official, disjoint = load_recipe("kinetics").protocols(asked)
    assert official.leaks == "of 4 videos, 1 in val and test, as published"
    assert disjoint.name == "kinetics/600/disjoint"
    assert Counter(c.split for c in official.expected) == {"train": 2, "val": 2, "test": 1}
    assert Counter(c.split for c in disjoint.expected) == {"train": 2, "val": 1, "test": 1}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_recipe_of_published_lists_says_so(name: str, tmp_path: Path, monkeypatch) -> None:
    opened = []
    real = Annotations.protocol

    def seen(self, protocol, classes, **more):
        opened.append((self.official, protocol))
        return real(self, protocol, classes, **more)

    monkeypatch.setattr(Annotations, "protocol", seen)
    annotations, media = MAKERS[name](tmp_path)
    asked = ["kinetics/400"] if name == "kinetics" else []
    load_recipe(name).protocols(options(annotations, media, *asked, **SHARES))
    # Those two are made here: what leaks in them is a fault of whoever made them.
    assert {official for official, _ in opened} == {name not in ("folder", "av_mnist")}


def test_vggsound_of_two_files(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", f'{YT}_000030.mp4,"bee, wasp, etc. buzzing"\nbad,wave\n')
    write(tmp_path / "test.csv", "a_b_000001.mp4,tap dancing\n")
    (protocol,) = load_recipe("vggsound").protocols(options(tmp_path))
    assert [(c.clip_id, c.split, c.source_id) for c in protocol.expected] == [
        (f"{YT}_000030", "train", YT), ("a_b_000001", "test", "a_b")]  # fmt: skip
    assert said(protocol) == [("train.csv:2", "not ID_000030.mp4,label", True)]


def test_ave(tmp_path: Path) -> None:
    found = made("ave", tmp_path)
    assert list(found) == ["ave/official", "ave/disjoint", "ave/official_event",
                           "ave/disjoint_event"]  # fmt: skip
    official, disjoint = found["ave/official"], found["ave/disjoint"]
    man, bell, bark = ("Male speech man speaking",), ("Church bell",), ("Bark",)
    test = [
        ("both_splits/Male speech man speaking/2-7", "test", man, "both_splits"),
        ("-test_only/Church bell/1-4", "test", bell, "-test_only"),
    ]
    val = ("val_as_well/Church bell/0-10", "val", bell, "val_as_well")
    only = ("RUhOCu3LNXM/Church bell/0-10", "train", bell, "RUhOCu3LNXM")
    last = ("RUhOCu3LNXM/Male speech man speaking/3-5", "train", man, "RUhOCu3LNXM")
    assert rows(official) == [
        *test, val, only,
        ("both_splits/Male speech man speaking/2-7/train", "train", man, "both_splits"),
        ("both_splits/Bark/0-3", "train", bark, "both_splits"),
        ("val_as_well/Church bell/0-10/train", "train", bell, "val_as_well"), last,
    ]  # fmt: skip
    assert official.leaks == "of 4 videos, 1 in train and test, 1 in train and val, as published"
    assert rows(disjoint) == [*test, val, only, last]
    assert not disjoint.leaks
    assert said(disjoint) == [
        ("trainSet.txt:2", "both_splits/Male speech man speaking/2-7/train: both_splits is in "
         "test, too", True),
        ("trainSet.txt:3", "both_splits/Bark/0-3: both_splits is in test, too", True),
        ("trainSet.txt:4", "val_as_well/Church bell/0-10/train: val_as_well is in val, too", True),
    ]  # fmt: skip
    whole, event = official.expected[0], found["ave/official_event"].expected[0]
    assert (whole.start_seconds, whole.end_seconds, whole.seconds) == (None, None, 10)
    assert (event.start_seconds, event.end_seconds, event.seconds) == (2, 7, None)
    assert len(official.classes) == 28


def test_crema_d(tmp_path: Path) -> None:
    found = made("crema_d", tmp_path)
    assert list(found) == ["crema_d/ogm", "crema_d/speaker_independent"]
    ogm, apart = found["crema_d/ogm"], found["crema_d/speaker_independent"]
    assert ogm.classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    assert rows(ogm)[0] == ("1001_IEO_ANG_HI", "train", ("ANG",), "1001")
    assert rows(ogm)[20] == ("1001_IEO_NEU_HI", "test", ("NEU",), "1001")
    assert ogm.leaks == "of 20 actors, 20 in train and test, as published"
    assert not ogm.problems
    # Ages rise with the numbers. Women are the even ones: 3rd and 8th, and 5th, of each sex.
    split_of = dict.fromkeys(map(str, CREMA_ACTORS), "train")
    split_of |= {"1006": "test", "1016": "test", "1010": "val"}
    split_of |= {"1005": "test", "1015": "test", "1009": "val"}
    assert {c.source_id: c.split for c in apart.expected} == split_of
    assert len(apart.expected) == 40
    assert not apart.leaks
    assert apart.expected[0].names == ("VideoFlash/1001_IEO_ANG_HI.flv", "1001_IEO_ANG_HI")


def test_crema_d_rows_that_contradict_their_names(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "name,label\n1001_IEO_ANG_HI,HAP\n1001_IEO_ANG_HI.flv,ANG\n"
          "1001_IEO_JOY_HI,JOY\n1001_IEO,ANG\n")  # fmt: skip
    write(tmp_path / "test.csv", "1002_IEO_ANG_HI,ANG\n")
    (protocol,) = load_recipe("crema_d").protocols(options(tmp_path))
    assert [c.clip_id for c in protocol.expected] == ["1001_IEO_ANG_HI", "1002_IEO_ANG_HI"]
    assert [p.reason for p in protocol.problems] == [
        "labelled HAP, and its name says ANG",
        "label 'JOY' is not one of the 6 classes",
        "not ACTOR_SENTENCE_EMOTION_LEVEL, as 1001_IEO_ANG_HI",
    ]
    with pytest.raises(AnnotationError, match=r"needs train\.csv and test\.csv"):
        load_recipe("crema_d").protocols(options(_empty(tmp_path)))


def test_vggsounder(tmp_path: Path) -> None:
    found = made("vggsounder", tmp_path)
    assert list(found) == ["vggsounder", "vggsounder/background_music"]
    protocol = found["vggsounder"]
    assert protocol.classes == load_recipe("vggsound").CLASSES
    speech, singing, dog = "child speech, kid speaking", "male singing", "dog barking"
    assert rows(protocol) == [
        (f"{YT}_000030", "test", (speech, singing, dog), YT),
        ("x_y-z_012345_000007", "test", ("ambulance siren",), "x_y-z_012345"),
    ]
    first, second = protocol.expected
    assert (first.video_labels, first.audio_labels) == ((speech, dog), (speech, singing))
    assert (second.video_labels, second.audio_labels) == ((), ("ambulance siren",))
    assert first.cut_seconds == (30, 40)
    assert [(where, what) for where, what, _ in said(protocol)] == [
        ("vggsounder.csv:6", f"{YT}_000030 has the label 'male singing' already"),
        ("vggsounder.csv:7", "label 'no such class' is not one of the 309 classes"),
        ("vggsounder.csv:8", "modality 'X' is none of A, V and AV"),
        ("vggsounder.csv:9", "not ID_000030"),
    ]
    assert len(found["vggsounder/background_music"].expected) == 3


def test_epic_kitchens_100(tmp_path: Path) -> None:
    found = made("epic_kitchens_100", tmp_path)
    assert list(found) == [f"epic_kitchens_100/{kind}" for kind in ("verb_noun", "verb", "noun")]
    both, verb = found["epic_kitchens_100/verb_noun"], found["epic_kitchens_100/verb"]
    assert both.classes == ("verb:take", "verb:open", "noun:door", "noun:knife")
    assert verb.classes == ("verb:take", "verb:open")
    assert rows(both) == [
        ("P01_01_0", "train", ("verb:open", "noun:door"), "P01_01"),
        ("P01_01_1", "train", ("verb:take", "noun:knife"), "P01_01"),
        ("P02_01_0", "val", ("verb:take", "noun:knife"), "P02_01"),
        ("P02_01_1", "val", ("verb:open", "noun:door"), "P02_01"),
    ]
    assert [c.labels for c in verb.expected][:2] == [("verb:open",), ("verb:take",)]
    clip = both.expected[1]
    assert (clip.start_seconds, clip.end_seconds) == (4.37, 6.17)  # not 262 / 60
    assert clip.names == ("P01/videos/P01_01.MP4", "P01_01")
    assert said(both) == [
        ("EPIC_100_train.csv:4", "begins at 64.37 s, and P01_01 is 10 s long", True),
        ("EPIC_100_test_timestamps.csv", "1 rows without labels: not used", True),
    ]


def test_audioset(tmp_path: Path) -> None:
    found = made("audioset", tmp_path)
    assert list(found) == ["audioset/balanced"]  # the file of the others is not there
    protocol = found["audioset/balanced"]
    assert protocol.classes == ("Speech", "Male speech, man speaking", "Music")
    assert rows(protocol) == [
        (f"{YT}_30000", "train", ("Speech", "Male speech, man speaking"), YT),
        ("bbbbbbbbbbb_0", "train", ("Music",), "bbbbbbbbbbb"),
        ("eeeeeeeeeee_5000", "test", ("Speech",), "eeeeeeeeeee"),
    ]
    assert (protocol.expected[0].video, protocol.expected[0].cut_seconds) == (YT, (30, 40))
    assert said(protocol) == [
        ("class_labels_indices.csv", "3 classes; AudioSet has 527", False),
        ("balanced_train_segments.csv:5", "no class has the mid /t/dd00099: the others are used",
         False),
        ("balanced_train_segments.csv:6", "no class has the mid /t/dd00099", True),
    ]  # fmt: skip
    with pytest.raises(AnnotationError, match=r"no unbalanced_train_segments\.csv in it"):
        load_recipe("audioset").protocols(options(tmp_path / "csv", None, "audioset/full"))


def test_av_mnist(tmp_path: Path) -> None:
    protocol = made("av_mnist", tmp_path)["av_mnist/v1"]
    assert protocol.classes == tuple("0123456789")
    counts = Counter(clip.split for clip in protocol.expected)
    assert counts == {"train": 22, "val": 2, "test": 4}  # a twelfth of 24 images
    assert [c.labels for c in protocol.expected] == [(str(k % 2),) for k in [*range(24), *range(4)]]
    takes = {"train": "12", "val": "7", "test": "0"}
    for clip in protocol.expected:
        digit, speaker, take = clip.source_id.split("_")
        assert (digit,) == clip.labels
        assert speaker in ("theo", "nicolas")
        assert take == takes[clip.split]
        assert clip.names == (f"{clip.clip_id}_{clip.source_id}.mp4",)
    assert len({c.source_id for c in protocol.expected if c.split == "train"}) == 4

    files = sorted((tmp_path / "clips").rglob("*.mp4"))
    assert len(files) == 28
    times = [path.stat().st_mtime_ns for path in files]
    files[0].unlink()
    load_recipe("av_mnist").protocols(options(tmp_path / "downloads", tmp_path / "clips"))
    again = [path.stat().st_mtime_ns for path in files]
    assert again[1:] == times[1:]  # only what was missing was written


def test_av_mnist_files_that_are_cut_short(tmp_path: Path) -> None:
    annotations, media = MAKERS["av_mnist"](tmp_path)
    path = annotations / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AnnotationError, match=r"t10k-images.*: not a gzip file, or cut short"):
        load_recipe("av_mnist").protocols(options(annotations, media))
    path.unlink()
    write(annotations / "t10k-images-idx3-ubyte", b"\0\0\x08\x03" + b"\0\0\0\x04" * 3 + b"x")
    with pytest.raises(AnnotationError, match=r"1 bytes after its header, which says \(4, 4, 4\)"):
        load_recipe("av_mnist").protocols(options(annotations, media))


SHARES = {"val": 0.1, "test": 0.2, "source": None}


def test_folder_by_a_table(tmp_path: Path) -> None:
    annotations, media = MAKERS["folder"](tmp_path)
    (protocol,) = load_recipe("folder").protocols(options(annotations, media, **SHARES))
    assert protocol.name == "folder/my clips"
    assert protocol.classes == ("jumping", "running")
    assert rows(protocol) == [
        ("a/één.mp4@0-4", "train", ("jumping",), "one"),
        ("a/één.mp4@5-9", "train", ("running",), "one"),
        ("a/two.mp4", "test", ("jumping", "running"), "two"),
        ("b/three.mp4", "val", ("running",), "three"),
    ]
    assert (protocol.expected[1].start_seconds, protocol.expected[1].end_seconds) == (5, 9)
    assert protocol.expected[0].names == ("a/één.mp4",)
    few = "1 of 2 classes have no clip in it, having too few sources or other splits: jumping"
    assert said(protocol) == [("val", few, False)]


def test_folder_by_a_table_that_says_nonsense(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "-a.mp4,x,0,1\n-a.mp4,x,0,1\nb.mp4,x,2,1\nc.mp4,x,one\n"
                  "../d.mp4,x\ne.mp4,x,,,tuning\nf.mp4,x,0:70,0:80\n/g.mp4,x\n")  # fmt: skip
    (protocol,) = load_recipe("folder").protocols(options(table, tmp_path, **SHARES))
    assert [clip.clip_id for clip in protocol.expected] == ["-a.mp4@0-1"]
    assert [(p.where, p.reason) for p in protocol.problems] == [
        ("t.csv:2", "duplicate row: as t.csv:1"),
        ("t.csv:3", "from 2 s to 1.0 s is no stretch of time"),
        ("t.csv:4", "start 'one' is not a number of seconds, nor m:ss or h:mm:ss"),
        ("t.csv:5", "'../d.mp4' does not stay within the media folder"),
        ("t.csv:6", "split 'tuning' is not one of train, val, test"),
        ("t.csv:7", "start '0:70' is not a number of seconds, nor m:ss or h:mm:ss"),
        ("t.csv:8", f"'/g.mp4' does not lie below {tmp_path}"),
    ]


def test_folder_by_a_table_of_names_with_brackets_and_without_endings(tmp_path: Path) -> None:
    write(tmp_path / "Clip [1].mp4", b"x")
    table = write(tmp_path / "t.csv", "Clip [1],x\n")
    (protocol,) = load_recipe("folder").protocols(options(table, tmp_path, **SHARES))
    assert [clip.clip_id for clip in protocol.expected] == ["Clip [1]"]  # and not a heading
    assert said(protocol) == []


def test_folder_by_folders_deals_out_by_source(tmp_path: Path) -> None:
    for name in ("a/s0_1.mp4", "b/s0_2.mp4", "b/deep/s1_1.MKV", "b/notes.txt", "loose.mp4"):
        write(tmp_path / name, b"x")
    recipe = load_recipe("folder")
    shares = SHARES | {"source": r"(\w+)_"}
    (protocol,) = recipe.protocols(options(tmp_path, tmp_path, **shares))
    assert [(c.clip_id, c.labels, c.source_id) for c in protocol.expected] == [
        ("a/s0_1.mp4", ("a",), "s0"), ("b/deep/s1_1.MKV", ("b",), "s1"),
        ("b/s0_2.mp4", ("b",), "s0"),
    ]  # fmt: skip
    assert said(protocol)[0] == ("loose.mp4", "lies in no folder of a class (CLASS/FILE)", True)
    with pytest.raises(AnnotationError, match=r"--source 'x\(\.\*\)' does not match its name"):
        recipe.protocols(options(tmp_path, tmp_path, **SHARES | {"source": "x(.*)"}))


ROWS = [("dog bark/1.mp4", "dog bark", "train"), ("dog bark/2.mp4", "dog bark", "test"),
        ("meow/1.mp4", "cat, meow", "train"), ("meow/2.mp4", "cat, meow", "test")]  # fmt: skip
WORDS = {"train": "Training", "test": "testing"}
SPELLED = {
    "plain": "path,label,split\n" + "".join(f'{p},"{c}",{s}\n' for p, c, s in ROWS),
    "other headings": "file,class,subset\n" + "".join(f'{p},"{c}",{s}\n' for p, c, s in ROWS),
    "semicolon": "Path;LABEL;Split\n" + "".join(f"{p};{c};{s}\n" for p, c, s in ROWS),
    "pipe": "path|label|split\n" + "".join(f"{p}|{c}|{s}\n" for p, c, s in ROWS),
    "tab": "path\tlabel\tsplit\n" + "".join(f"{p}\t{c}\t{s}\n" for p, c, s in ROWS),
    "sep": "sep=;\r\npath;label;split\r\n" + "".join(f"{p};{c};{s}\r\n" for p, c, s in ROWS),
    "words": "path,label,split\n" + "".join(f'{p},"{c}",{WORDS[s]}\n' for p, c, s in ROWS),
    "absolute": "path,label,split\n" + "".join(f'MEDIA/{p},"{c}",{s}\n' for p, c, s in ROWS),
    "prefix": "path,label,split\n" + "".join(f'm/{p},"{c}",{s}\n' for p, c, s in ROWS),
    "backslash": "path,label,split\n"
    + "".join(f'{p.replace("/", chr(92))},"{c}",{s}\n' for p, c, s in ROWS),
    "comment": "# made by me\npath,label,split\n" + "".join(f'{p},"{c}",{s}\n' for p, c, s in ROWS),
    "index": ",path,label,split\n" + "".join(f'0,{p},"{c}",{s}\n' for p, c, s in ROWS),
}


@pytest.mark.parametrize("how", SPELLED)
def test_folder_takes_a_table_as_people_save_it(how: str, tmp_path: Path) -> None:
    media = tmp_path / "m"
    for path, _, _ in ROWS:
        write(media / path, b"x")
    table = write(tmp_path / "t.csv", SPELLED[how].replace("MEDIA", str(media)))
    (protocol,) = load_recipe("folder").protocols(options(table, media, **SHARES))
    assert [(c.names[0], c.labels[0], c.split) for c in protocol.expected] == ROWS
    assert not said(protocol)


def test_folder_takes_tables_without_heading_and_clock_times(tmp_path: Path) -> None:
    for path in ("dog bark/1.mp4", "meow/1.mp4"):
        write(tmp_path / path, b"x")
    recipe = load_recipe("folder")
    for text in ("dog bark/1.mp4;a\nmeow/1.mp4;b\n", "dog bark/1.mp4 a\nmeow/1.mp4 b\n",
                 "dog bark/1,a\nmeow/1,b\n"):  # fmt: skip
        (protocol,) = recipe.protocols(options(write(tmp_path / "t.csv", text), tmp_path, **SHARES))
        assert [c.labels[0] for c in protocol.expected] == ["a", "b"]
    text = ("path;label;start;end\nmeow/1.mp4;b;0:01;1:02,5\nmeow/1.mp4;b;1:00:00.5;1:00:02\n"
            "meow/1.mp4;b;0,5;2,0\n")  # fmt: skip
    (protocol,) = recipe.protocols(options(write(tmp_path / "t.csv", text), tmp_path, **SHARES))
    assert [(c.start_seconds, c.end_seconds) for c in protocol.expected] == [
        (1, 62.5), (3600.5, 3602), (0.5, 2)]  # fmt: skip
    (protocol,) = recipe.protocols(
        options(write(tmp_path / "t.csv", "clip_no,kind\nmeow/1.mp4,b\n"), tmp_path, **SHARES)
    )
    assert [c.labels[0] for c in protocol.expected] == ["b"]
    assert said(protocol)[0][1].startswith("the first row names no file: a heading?")


def test_folder_without_a_usable_row_says_why(tmp_path, capsys) -> None:
    write(tmp_path / "m/a.mp4", b"x")
    text = "path,label,split\na.mp4,x,tuning\na.mp4,,train\n/b.mp4,x,train\nc.mp4,x,odd\n"
    assert run("folder", write(tmp_path / "t.csv", text), tmp_path / "m", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert (
        "the annotations list no usable clip: t.csv:2: split 'tuning' is not one of "
        "train, val, test; t.csv:3: label is empty; t.csv:4: '/b.mp4' does not lie below " in said
    )
    assert said.endswith("; and 1 more\n")


def test_folder_takes_folders_of_splits(tmp_path: Path) -> None:
    recipe = load_recipe("folder")
    for name in ("train/walk/1.mp4", "train/run/1.mp4", "Valid/walk/2.mp4", "test/walk/d/3.mp4"):
        write(tmp_path / "s" / name, b"x")
    (protocol,) = recipe.protocols(options(tmp_path / "s", tmp_path / "s", **SHARES))
    assert [(c.clip_id, c.labels[0], c.split) for c in protocol.expected] == [
        ("Valid/walk/2.mp4", "walk", "val"), ("test/walk/d/3.mp4", "walk", "test"),
        ("train/run/1.mp4", "run", "train"), ("train/walk/1.mp4", "walk", "train")]  # fmt: skip
    assert [p.where for p in protocol.problems] == ["val", "test"]  # without `run`
    write(tmp_path / "s/jump/1.mp4", b"x")
    with pytest.raises(AnnotationError, match="look like splits, and beside them are: jump"):
        recipe.protocols(options(tmp_path / "s", tmp_path / "s", **SHARES))
    for name in ("bus/1.mp4", "train/1.mp4"):  # vehicles
        write(tmp_path / "v" / name, b"x")
    (protocol,) = recipe.protocols(options(tmp_path / "v", tmp_path / "v", **SHARES))
    assert protocol.classes == ("bus", "train")


def test_folder_hidden_files_links_and_endings(tmp_path: Path) -> None:
    media = tmp_path / "m"
    for name in ("walk/1.mp4", "walk/._1.mp4", "__MACOSX/x.mp4", ".Trashes/y.mp4", "run/2.MTS",
                 "run/3.3gp", "run/4.wmv", "run/5.ogv", "run/6.vob", "run/notes.txt"):  # fmt: skip
        write(media / name, b"x")
    write(tmp_path / "elsewhere/7.m2ts", b"x")
    write(media / "run/8.dat", b"RIFF\0\0\0\0AVI LIST")
    (media / "run/linked").symlink_to(tmp_path / "elsewhere")
    (media / "run/again.mp4").symlink_to(media / "walk/1.mp4")
    write(media / "Walk/9.mp4", b"x")
    odd = media / os.fsdecode(b"walk/caf\xe9.mp4")
    odd.write_bytes(b"x")  # named by the walk of every recipe as not usable
    (protocol,) = load_recipe("folder").protocols(options(media, media, **SHARES))
    assert [c.clip_id for c in protocol.expected] == [
        "Walk/9.mp4", "run/2.MTS", "run/3.3gp", "run/4.wmv", "run/5.ogv", "run/6.vob", "run/8.dat",
        "run/linked/7.m2ts", "walk/1.mp4"]  # fmt: skip
    assert protocol.classes == ("Walk", "run", "walk")
    assert said(protocol)[0] == ("run/again.mp4", "is a link to walk/1.mp4, which is used", True)
    assert said(protocol)[-1] == (
        "classes", "Walk and walk are different classes: they differ only in case, blanks or signs",
        False)  # fmt: skip


def test_folder_deals_out_every_class_by_its_sources(tmp_path: Path) -> None:
    for label, count in {"a": 20, "b": 5, "c": 3, "d": 2, "e": 1}.items():
        for k in range(count):
            for part in (0, 1):
                write(tmp_path / f"{label}/{label}{k}_{part}.mp4", b"x")
    shares = SHARES | {"source": r"(\w+)_"}
    (protocol,) = load_recipe("folder").protocols(options(tmp_path, tmp_path, **shares))
    counts = Counter((c.labels[0], c.split) for c in protocol.expected)
    assert counts == {("a", "train"): 28, ("a", "val"): 4, ("a", "test"): 8, ("b", "train"): 6,
                      ("b", "val"): 2, ("b", "test"): 2, ("c", "train"): 2, ("c", "val"): 2,
                      ("c", "test"): 2, ("d", "train"): 2, ("d", "test"): 2,
                      ("e", "train"): 2}  # fmt: skip
    assert not in_two_splits(protocol.expected)
    few = "classes have no clip in it, having too few sources or other splits"
    assert said(protocol) == [("val", f"2 of 5 {few}: d, e", False),
                              ("test", f"1 of 5 {few}: e", False)]  # fmt: skip


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_card_has_every_heading_and_says_its_protocols(name: str, tmp_path: Path) -> None:
    card = (ROOT / f"datasets/{name}/README.md").read_text()
    headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["What it is", "Licence and how to get it", "Expected folder tree",
                        "Splits and protocol", "Classes", "Counts", "Known holes", "Prepare",
                        "Config and expected result", "Citation"]  # fmt: skip
    assert f"python datasets/{name}/prepare.py" in card


def run(name: str, annotations: Path, media: Path, out: Path, *more: str) -> int:
    """The script of a recipe, as from the command line."""
    recipe = load_recipe(name)
    argv = ["--media", str(media), "--annotations", str(annotations), "--out", str(out), *more]
    arguments = getattr(recipe, "arguments", None)
    return run_recipe(name, recipe.__doc__, recipe.protocols, arguments=arguments, argv=argv)


def manifest(folder: Path) -> dict[str, dict[str, Entry]]:
    """By split and id, read as training reads it."""
    return {
        split: {entry.clip_id: entry for entry in read_manifest(folder, split).entries}
        for split in splits_of(folder)
    }


def excluded(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "excluded.jsonl").read_text().splitlines()]


WHOLE = {
    "ucf101": ("ucf101/split1", {"train": 3, "test": 3}),
    "hmdb51": ("hmdb51/split1", {"train": 2, "test": 2}),
    "kinetics": ("kinetics/400", {"train": 3, "val": 1}),
    "kinetics_sounds": ("kinetics_sounds/ogm_val", {"train": 2, "val": 1, "test": 1}),
    "vggsound": ("vggsound", {"train": 2, "test": 1}),
    "vggsounder": ("vggsounder", {"test": 2}),
    "ave": ("ave/official_event", {"train": 5, "val": 1, "test": 2}),
    "crema_d": ("crema_d/ogm", {"train": 20, "test": 20}),
    "epic_kitchens_100": ("epic_kitchens_100/verb_noun", {"train": 2, "val": 2}),
    "audioset": ("audioset/balanced", {"train": 2, "test": 1}),
    "av_mnist": ("av_mnist/v1", {"train": 22, "val": 2, "test": 4}),
    "folder": ("folder/my clips", {"train": 2, "val": 1, "test": 1}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_whole_script_ends_in_a_manifest(name: str, tmp_path: Path) -> None:
    annotations, media = MAKERS[name](tmp_path)
    protocol, counts = WHOLE[name]
    out = tmp_path / "out"
    assert run(name, annotations, media, out, "--protocol", protocol, "--workers", "1") == 0
    found = manifest(out)
    assert {split: len(entries) for split, entries in found.items()} == counts
    entries = {clip_id: entry for split in found.values() for clip_id, entry in split.items()}
    for entry in entries.values():
        assert (media / entry.path).is_file()
        assert entry.video is not None
    header = json.loads((out / "dataset.json").read_bytes())
    assert header["protocol"] == protocol
    match name:
        case "ucf101":  # its file is spelled as the folder, its list is not
            hands = entries["v_HandStandPushups_g01_c01"]
            assert hands.path == "HandstandPushups/v_HandstandPushups_g01_c01.avi"
            assert [c for c, e in entries.items() if e.audio is None] == [
                "v_Basketball_g08_c01", "v_Basketball_g01_c01"]  # fmt: skip
        case "hmdb51":
            assert not any(entry.audio for entry in entries.values())
        case "kinetics":
            replaced = entries["3caPS4FHFF8_000036_000046"]
            assert replaced.path.startswith("replacement_for_corrupted_k400/")
        case "kinetics_sounds":
            assert [row["clip_id"] for row in excluded(out)] == ["missing-123_000005_000015"]
        case "ave":
            event = entries["both_splits/Male speech man speaking/2-7"]
            assert (event.start_seconds, event.end_seconds) == (2, 7)
        case "crema_d":
            assert {Path(entry.path).suffix for entry in entries.values()} == {".flv"}
        case "epic_kitchens_100":
            assert entries["P01_01_1"].path == "P01/videos/P01_01.MP4"
            assert entries["P01_01_1"].labels == ("verb:take", "noun:knife")
        case "av_mnist":
            audio = entries["train/00000"].audio
            assert audio is not None
            assert (audio.rate_hz, audio.channels, audio.silent) == (8000, 1, False)
            assert abs(audio.duration_seconds - 1) < 0.15


def test_annotations_are_fetched_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, media = MAKERS["ucf101"](tmp_path)
    assert run("ucf101", tmp_path / "lists", media, tmp_path / "out", "--fetch", "file:///x") == 1
    assert "error: file:///x: only http and https are fetched" in capsys.readouterr().err


needs_shared = pytest.mark.skipif(
    not (SHARED / "ucf101_annotations").is_dir(), reason=f"no real UCF101 in {SHARED}"
)


LISTS = SHARED / "ucf101_annotations"
HERE = ["ApplyEyeMakeup", "ApplyLipstick", "Archery", "BabyCrawling", "BalanceBeam",
        "BandMarching", "BasketballDunk", "Surfing"]  # fmt: skip


@pytest.mark.long
@needs_shared
def test_the_real_lists_of_ucf101_and_1049_clips_under_their_official_names() -> None:
    names = ("ucf101/split1", "ucf101/sound51_split1")
    every, heard = load_recipe("ucf101").protocols(options(LISTS, None, *names))
    assert Counter(clip.split for clip in every.expected) == every.published
    assert Counter(clip.split for clip in heard.expected) == {"train": 4901, "test": 1944}
    for protocol in (every, heard):
        assert not protocol.problems
        assert {clip.labels[0] for clip in protocol.expected} == set(protocol.classes)

    found = files_of(scan(SHARED / "ucf101_av8/clips"), [every])
    here = [clip for clip in every.expected if found[clip]]
    assert Counter(clip.split for clip in here) == {"train": 753, "test": 296}
    assert {clip.labels[0] for clip in here} == set(HERE)
    for clip in here:
        (file,) = found[clip]
        assert Path(file.path).stem == clip.clip_id


def command(out: Path, media: str, *protocols: str) -> None:
    """The script itself, in a process of its own."""
    script = ROOT / "datasets/ucf101/prepare.py"
    done = subprocess.run(
        [sys.executable, str(script), "--media", str(SHARED / media), "--annotations", str(LISTS),
         "--out", str(out), "--protocol", *protocols],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@needs_shared
@pytest.mark.slow
def test_forty_real_files_of_ucf101_in_every_split(tmp_path: Path) -> None:
    command(tmp_path, "ucf101_orig", *(f"ucf101/split{n}" for n in (1, 2, 3)))
    for number in (1, 2, 3):
        folder = tmp_path / f"ucf101_split{number}"
        found = manifest(folder)
        assert sum(map(len, found.values())) == 40
        lists = {split: _official(f"{split}list0{number}.txt") for split in ("train", "test")}
        for split, entries in found.items():
            assert set(entries) <= lists[split]
        header = json.loads((folder / "dataset.json").read_bytes())
        # The classes of the protocol in their official order, also those without a file.
        official = (LISTS / "classInd.txt").read_text().split()[1::2]
        assert header["classes"] == official
        assert set(official) - set(header["notes"]["absent_classes"]) == set(HERE)
        # What is not there of the classes that are: named one by one.
        gone = [row for row in excluded(folder) if row["status"] == "missing"]
        absent = Counter(row["labels"][0] for row in gone)
        in_lists = Counter(clip_id.split("_")[1] for clip_id in lists["train"] | lists["test"])
        assert {c: absent[c] for c in HERE} == {c: in_lists[c] - 5 for c in HERE}


def _official(name: str) -> set[str]:
    lines = (LISTS / name).read_text().split("\n")
    return {line.split()[0].split("/")[1].removesuffix(".avi") for line in lines if line.strip()}


@needs_shared
@pytest.mark.slow
def test_1049_transcoded_clips_of_ucf101_become_a_manifest(tmp_path: Path) -> None:
    command(tmp_path, "ucf101_av8/clips", "ucf101/split1")
    found = manifest(tmp_path)
    assert {split: len(entries) for split, entries in found.items()} == {"train": 753, "test": 296}
    entries = [entry for split in found.values() for entry in split.values()]
    assert sum(entry.audio is None for entry in entries) == 4
    assert sum(entry.audio is not None and entry.audio.silent for entry in entries) == 14
