from collections import Counter

from detcenter.report.gallery import errors_of, ranked, truth, verdict, worst_images

BOX, FAR = [0, 0, 100, 100], [200, 0, 300, 100]


def test_verdicts_by_hand(annotation, detection):
    image = annotation(1, [BOX, FAR, [0, 200, 50, 250]], [1, 2, 1], crowd=[2])
    found = detection(
        [BOX, FAR, [200, 0, 300, 40], [350, 350, 390, 390], BOX],
        [0.9, 0.8, 0.7, 0.6, 0.4],
        [1, 1, 2, 2, 2],
    )
    seen = verdict(image, found, 0.5)
    assert seen == {
        "found": [
            [*BOX, 1, 0.9, "right", 0],
            [*FAR, 1, 0.8, "cls", 2],  # the 2 was meant
            [200, 0, 300, 40, 2, 0.7, "loc", 0],
            [350, 350, 390, 390, 2, 0.6, "bkg", 0],
        ],
        "missed": [],
    }
    assert errors_of(seen) == {(1, 2, "cls"): 1, (2, 0, "loc"): 1, (2, 0, "bkg"): 1}
    assert truth(image) == [[*BOX, 1, False], [*FAR, 2, False], [0, 200, 50, 250, 1, True]]


def test_what_was_found_with_a_low_score_only_is_missed(annotation, detection):
    seen = verdict(
        annotation(1, [BOX, FAR], [1, 2]), detection([BOX, FAR], [0.9, 0.4], [1, 2]), 0.5
    )
    assert seen["missed"] == [[*FAR, 2]]
    assert errors_of(seen) == {(2, 0, "miss"): 1}


def test_an_image_without_objects_or_detections(annotation, detection):
    assert verdict(annotation(1, []), detection(), 0.5) == {"found": [], "missed": []}
    assert errors_of(verdict(annotation(1, []), detection([BOX], [0.9]), 0.5)) == {(1, 0, "bkg"): 1}


def test_the_worst_come_first_and_sound_ones_not_at_all():
    errors = [Counter({(1, 0, "miss"): n}) for n in (0, 3, 1, 5, 0)]
    assert ranked([+of for of in errors], 10) == [3, 1, 2]
    assert ranked([+of for of in errors], 2) == [3, 1]
    assert ranked([Counter()], 10) == []


def test_a_rare_error_is_not_crowded_out():
    errors = [Counter({(1, 2, "cls"): 9 - n % 3}) for n in range(50)] + [
        Counter({(2, 0, "miss"): 1})
    ]
    chosen = ranked(errors, 6)
    assert len(chosen) == 6 and chosen[-1] == 50


def test_the_errors_of_all_runs_count(annotation, detection):
    annotations = [annotation(i, [BOX, FAR]) for i in range(3)]
    right, half = detection([BOX, FAR], [0.9, 0.9]), detection([BOX], [0.9])
    runs = [[right, half, half], [right, detection(), half]]
    images, errors = worst_images(runs, annotations, 0.5, most=1)
    assert list(images) == [1]
    assert errors == [[[1, 0, "miss", 2]], [[1, 0, "miss", 3]]]  # in all images
    assert [len(run["missed"]) for run in images[1]["runs"]] == [1, 2]
    assert images[1]["truth"] == [[*BOX, 1, False], [*FAR, 1, False]]
