"""Frames of videos: which are taken, when they were, and what is said of files that are damaged."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from films import counting, cut, film, number_of, turned
from reseen.data.video import Frame, Sampling, read_video
from reseen.errors import ReseenError


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at ten frames a second in each container."""
    folder = tmp_path_factory.mktemp("films")
    for ending in ("mp4", "mkv", "ts", "h264"):
        film(folder / f"film.{ending}", counting(40))
    return folder


USUAL = Sampling()


def look(path: Path, sampling: Sampling = USUAL, *, after: int = -1) -> tuple[list[Frame], list[str]]:
    said: list[str] = []
    return list(read_video(path, sampling, after=after, report=said.append)), said


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_frame_of_every_half_second_is_taken(films: Path, ending: str) -> None:
    frames, said = look(films / f"film.{ending}")
    assert said == []
    assert [frame.number for frame in frames] == list(range(0, 40, 5))
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(8) / 2)
    assert [number_of(frame.image) for frame in frames] == list(range(0, 40, 5))
    assert frames[0].image.shape == (3, 48, 64)


def test_the_times_decide_where_they_do_not_divide_the_rate(films: Path) -> None:
    frames, _ = look(films / "film.mp4", Sampling(every=0.25))
    assert [frame.number for frame in frames] == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38]
    assert len(look(films / "film.mp4", Sampling(every=0.01))[0]) == 40  # no frame twice


def test_keyframes_are_those_that_need_no_other(films: Path, tmp_path: Path) -> None:
    path = film(tmp_path / "rare.mp4", counting(40), keyframe_every=15)
    frames, said = look(path, Sampling(keyframes=True))
    assert said == []
    assert [(frame.number, number_of(frame.image)) for frame in frames] == [(0, 0), (15, 15), (30, 30)]
    sparse, _ = look(films / "film.mp4", Sampling(every=1, keyframes=True))
    assert [frame.number for frame in sparse] == [0, 10, 20, 30]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(keyframes=True)])
def test_it_goes_on_behind_a_frame(films: Path, sampling: Sampling) -> None:
    whole, rest = look(films / "film.mkv", sampling)[0], look(films / "film.mkv", sampling, after=12)[0]
    assert [(f.number, f.seconds) for f in rest] == [(f.number, f.seconds) for f in whole if f.number > 12]


def test_without_times_frames_are_counted_and_it_is_said(films: Path) -> None:
    frames, said = look(films / "film.h264")  # FFmpeg takes 25 a second where nothing is written
    assert [frame.number for frame in frames] == [0, 13, 25, 38]
    assert said == [f"{films / 'film.h264'}: has no times; frames are counted at 25 a second"]
    with pytest.raises(ReseenError, match=r"has no times, .*leave --keyframes out"):
        look(films / "film.h264", Sampling(keyframes=True))


def test_a_film_that_ends_early_is_noticed_although_the_decoder_is_content(films: Path) -> None:
    path = cut(films / "film.mkv", 0.6)
    frames, said = look(path)
    assert 2 <= len(frames) < 8
    (line,) = said
    assert line.startswith(f"{path}: ends after ")
    assert line.endswith(" of 4.0 seconds: cut or damaged")


@pytest.mark.parametrize(
    ("ending", "what"), [("mp4", "damaged packets were left out"), ("mkv", "gaps without a frame")]
)
def test_damage_in_the_middle_is_passed_over_and_said(ending: str, what: str, tmp_path: Path) -> None:
    """Some decoders say that a packet is damaged, others drop what they cannot use: then the times have a gap."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    path = film(tmp_path / f"film.{ending}", noise)
    data = bytearray(path.read_bytes())
    begin, end = len(data) * 4 // 10, len(data) * 6 // 10
    data[begin:end] = b"\xff" * (end - begin)
    path.write_bytes(data)
    frames, said = look(path)
    assert 4 <= len(frames) < 8
    assert frames[-1].number > 20 or frames[-1].seconds > 2
    assert any(what in line for line in said), said


def test_frames_may_change_their_size(tmp_path: Path) -> None:
    """Two streams of one kind, one behind the other: what a camera writes whose resolution was changed."""
    small, large = (
        film(tmp_path / f"{name}.h264", counting(10, size))
        for name, size in (("small", (64, 48)), ("large", (128, 96)))
    )
    (tmp_path / "both.h264").write_bytes(small.read_bytes() + large.read_bytes())
    frames, _ = look(tmp_path / "both.h264", Sampling(every=0.2))
    assert [tuple(frame.image.shape[1:]) for frame in frames] == [(48, 64)] * 2 + [(96, 128)] * 2


def test_frames_that_are_too_large_are_not_decoded(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the film declares; and those that are larger than that, one by one."""
    small, large = (
        film(tmp_path / f"{size[0]}.h264", counting(10, size)).read_bytes() for size in ((64, 48), (256, 192))
    )
    (tmp_path / "both.h264").write_bytes(small + large)
    monkeypatch.setattr("reseen.data.video.MAX_PIXELS", 128 * 96)
    frames, said = look(tmp_path / "both.h264", Sampling(every=0.2))
    assert [tuple(frame.image.shape[1:]) for frame in frames] == [(48, 64)] * 2
    # the last is not told where several threads decode
    assert re.search(r"\b(9|10) damaged packets were left out", said[0])
    monkeypatch.setattr("reseen.data.video.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ReseenError, match="declares 64 x 48 pixels, more than 3,071"):
        look(films / "film.mp4")


def test_a_film_is_upright_as_it_is_shown(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 255  # top left as it is stored
    frames, _ = look(turned(film(tmp_path / "telephone.mp4", [picture] * 5)))
    image = frames[0].image
    assert image.shape == (3, 64, 48)
    assert image[:, :12, 36:].float().mean() > 240  # top right as it is shown
    assert image[:, :12, :12].float().mean() < 15


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("no.mp4", b"", "cannot be read"),
        ("text.mkv", b"no film at all " * 99, "cannot be read as a video"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n", "cannot be read as a video"),
        ("gone.mp4", None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_video_is_one_line(name: str, content: bytes | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReseenError, match=why) as caught:
        look(tmp_path / name)
    assert str(caught.value).count("\n") == 0


def test_half_an_mp4_cannot_be_read(films: Path) -> None:
    with pytest.raises(ReseenError, match="cannot be read as a video"):
        look(cut(films / "film.mp4", 0.5))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "voice.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ReseenError, match="has no video stream"):
        look(path)


def test_names_may_be_any_bytes(films: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"na\xffme.mp4")
    path.write_bytes((films / "film.mp4").read_bytes())
    assert len(look(path)[0]) == 8


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf")])
def test_a_time_between_frames_is_above_nothing(every: float) -> None:
    with pytest.raises(ReseenError, match="--every"):
        Sampling(every=every)


def test_without_the_extra_one_line_says_which(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ReseenError, match=r"videos need a package .*: pip install 'reseen\[video\]'"):
        look(films / "film.mp4")
