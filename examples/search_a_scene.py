"""Find a person again: a scene and a box go in, the scenes that show the same person come out, best first.

    python examples/search_a_scene.py FOLDER RUN [SETTING=VALUE ...]

FOLDER holds scenes with boxes (docs/data.md); ``reseen demo --search`` draws some. RUN is a run folder: it is trained
where there is none yet. The result is RUN/found.png: whom was searched for, then the best places.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import reseen
from reseen.data import open_search_data


def search(searcher, scene, box, others, *, top=5):
    """Places in ``others`` that are most like the person in ``box`` of ``scene``: (similarity, path, box [4])."""
    wanted = searcher.embed(scene, [box])[0]  # [D]
    places = []
    for path in others:
        persons = searcher(path, min_score=0.5)  # boxes [R, 4], scores [R], features [R, D]
        if len(persons.boxes):
            similarity = persons.features @ wanted  # [R]
            best = int(np.argmax(similarity))  # a person is in a scene once
            places.append((float(similarity[best]), path, persons.boxes[best]))
    return sorted(places, key=lambda place: -place[0])[:top]


def cut(path, box, height=256):
    """The person in the box, ``height`` pixels high."""
    with Image.open(path) as image:
        person = image.convert("RGB").crop([round(float(side)) for side in box])
    return person.resize((max(1, round(person.width * height / max(1, person.height))), height))


def side_by_side(images, gap=8):
    widths = [image.width + gap for image in images]
    strip = Image.new("RGB", (sum(widths), images[0].height), "white")
    for image, end in zip(images, np.cumsum(widths), strict=True):
        strip.paste(image, (int(end) - image.width, 0))
    return strip


def main(folder, run_dir, settings):
    scenes = open_search_data(folder)
    if not run_dir.exists():
        reseen.train("r-siamnet", folder, run_dir, **settings)
    searcher = reseen.PersonSearcher.load(run_dir)
    probe = scenes.probes[0]  # whom to search for: the first query of the data
    scene = scenes.test[probe.scene].path
    others = [other.path for other in scenes.test if other.path != scene]
    found = search(searcher, scene, probe.box, others)
    for similarity, path, box in found:
        print(f"{similarity:.3f}  {path.name}  {[round(float(side)) for side in box]}")
    pictures = [cut(scene, probe.box), *(cut(path, box) for _, path, box in found)]
    side_by_side(pictures).save(run_dir / "found.png")
    return found


if __name__ == "__main__":
    folder, run_dir, *settings = sys.argv[1:]
    main(Path(folder), Path(run_dir), dict(setting.split("=", 1) for setting in settings))
