"""`detcenter compare --pool`: what it reads and leaves, and one line for what it cannot read."""

import json

import numpy as np
import pytest

from detcenter.analysis import Setting, pool
from detcenter.cli import main
from detcenter.errors import ConfigError
from detcenter.runs.pooling import pooled_pairs
from tests.command_line import fails

SEEDS = (0, 1, 2)
DRAWN = np.random.default_rng(0).normal(0.5, 0.05, (9, 3))  # of nine variants, by seed


def write(path, variants, **more):
    """A compare.json of variants, {name: {seed: AP}}, whose AP50 is 0.2 higher."""
    values = {
        "variants": [
            {
                "name": name,
                "seeds": list(seeds),
                "AP": {"values": list(seeds.values())},
                "AP50": {"values": [x + 0.2 * (i + 1) for x in seeds.values()]},
            }
            for i, (name, seeds) in enumerate(variants.items())
        ],
        "pairs": [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values | more))
    return str(path)


def variant(number, seeds=SEEDS):
    return dict(zip(seeds, DRAWN[number].tolist(), strict=True))


@pytest.fixture
def three(tmp_path):
    """Comparisons of an earlier version; that of dice has a third variant, and other seeds."""
    images = {"interval": [-0.03, 0.01]}
    pairs = [{"first": "plain", "second": "center", "images": images}]
    dice = {"center": variant(4, (1, 2, 3)), "plain": variant(5), "softmax": variant(6)}
    return [
        write(tmp_path / "clean.json", {"plain": variant(0), "center": variant(1)}, pairs=pairs),
        write(tmp_path / "noise.json", {"plain": variant(2), "center": variant(3)}),
        write(tmp_path / "dice" / "compare.json", dice),
    ]


def test_differences_by_shared_seeds(three):
    (pair,) = pooled_pairs(three, None, [])
    assert (pair.first, pair.second) == ("plain", "center")
    clean, noise, dice = pair.settings["AP"].values()
    assert list(pair.settings["AP"]) == ["clean", "noise", "dice"]
    assert clean.values == pytest.approx(DRAWN[1] - DRAWN[0])
    assert clean.seeds == [0, 1, 2]
    assert dice.seeds == [1, 2]
    assert dice.values == pytest.approx(DRAWN[4, :2] - DRAWN[5, 1:])
    assert pair.settings["AP50"]["noise"].values == pytest.approx(DRAWN[3] - DRAWN[2] + 0.2)
    assert clean.image_error == pytest.approx(0.04 / 3.92) and noise.image_error == 0
    assert pair.settings["AP50"]["clean"].image_error == 0
    assert pair.pooled["AP"] == pool(pair.settings["AP"])


def test_the_pair_that_is_asked_for(three):
    (pair,) = pooled_pairs(three, ("center", "plain"), [])
    assert pair.settings["AP"]["noise"].values == pytest.approx(DRAWN[2] - DRAWN[3])


def test_every_pair_that_all_have(tmp_path):
    names = ["plain", "softmax", "center"]
    one = write(tmp_path / "one.json", {name: variant(i) for i, name in enumerate(names)})
    other = {name: variant(8 - i) for i, name in enumerate(reversed(names))}
    two = write(tmp_path / "two.json", other | {"more": variant(0)})
    pairs = [(pair.first, pair.second) for pair in pooled_pairs([one, two], None, [])]
    assert pairs == [("plain", "softmax"), ("plain", "center"), ("softmax", "center")]


def keys(pairs):
    return {name: list(x.validation) for name, x in pairs[0].settings["AP"].items()}


def test_who_shares_validation_data(three, tmp_path):
    apart = keys(pooled_pairs(three, None, []))
    assert len({*apart["clean"], *apart["noise"], *apart["dice"]}) == 3
    told = keys(pooled_pairs(three, None, [three[1], str(tmp_path / "clean.json")]))
    assert set(told["clean"]) == set(told["noise"]) != set(told["dice"])
    prints = {"validation": {"0": "aa", "1": "bb", "2": "bb"}}
    new = write(tmp_path / "new.json", {"plain": variant(7), "center": variant(8)}, **prints)
    assert keys(pooled_pairs([*three, new], None, []))["new"] == ["aa", "bb", "bb"]
    with pytest.raises(ConfigError, match="says itself on which data"):
        pooled_pairs([*three, new], None, [new])
    with pytest.raises(ConfigError, match="is not among the files"):
        pooled_pairs(three[:2], None, [three[2]])


def test_units_of_vary_are_no_seeds(tmp_path):
    prints = {"0": "aa", "1": "bb", "2": "cc"}
    images = {"first": "plain", "second": "center", "images": {"interval": [0, 0.1]}}
    varied = write(
        tmp_path / "varied.json",
        {"plain": variant(0), "center": variant(1)},
        vary="data.digits.seed",
        validation=prints,
        pairs=[images],
    )
    plain = write(tmp_path / "plain.json", {"plain": variant(2), "center": variant(3)}, vary=None)
    settings = pooled_pairs([varied, plain], None, [])[0].settings["AP"]
    assert settings["varied"] == Setting(
        pytest.approx(DRAWN[1] - DRAWN[0]),
        [f"data.digits.seed={seed}" for seed in SEEDS],
        ["aa", "bb", "cc"],
        0.0,  # other data sets are other images already
    )
    assert settings["plain"].seeds == [0, 1, 2]


def test_units_of_vary_on_the_same_images_have_an_error_over_them(tmp_path):
    said = {"joint": [-0.02, 0.05], "images_sd": 0.004}
    found = {"first": "plain", "second": "center", "AP": said, "images": {"interval": [0, 0.1]}}
    of = {"vary": "train.lr", "validation": dict.fromkeys("012", "aa"), "pairs": [found]}
    both = {"plain": variant(0), "center": variant(1)}
    files = [
        write(tmp_path / f"{i}.json", both, images=images, **of)
        for i, images in ((0, 50), (1, None))
    ]
    shared, own = pooled_pairs(files, None, [])[0].settings["AP"].values()
    assert (shared.image_error, own.image_error) == (0.004, 0.0)


def test_what_a_comparison_says_of_the_pair_itself(three, tmp_path, caplog):
    """Its own interval, over seeds and images, its error over images, baseline and failures."""
    said = {"joint": [-0.02, 0.05], "images_sd": 0.004}
    found = {"first": "plain", "second": "center", "AP": said, "AP50": said | {"images_sd": 0.006}}
    variants = {"center": variant(7), "plain": variant(8)}
    more = {"pairs": [found | {"images": {"interval": [0, 1]}}], "baseline": "plain"}
    new = write(tmp_path / "new.json", variants, **more)
    (pair,) = pooled_pairs([new, *three], None, [])
    assert (pair.first, pair.second) == ("plain", "center")
    errors = [pair.settings[ap]["new"].image_error for ap in ("AP", "AP50")]
    assert errors == [0.004, 0.006]
    mean = pair.pooled["AP"].settings["new"]
    assert (mean.mean, mean.low, mean.high) == (
        pytest.approx((DRAWN[7] - DRAWN[8]).mean()),
        -0.02,
        0.05,
    )
    (turned,) = pooled_pairs([new, *three], ("center", "plain"), [])
    assert turned.pooled["AP"].settings["new"][1:3] == (-0.05, 0.02)
    assert not caplog.records
    values = json.loads((tmp_path / "new.json").read_text())
    values["variants"][0]["failed"] = [3]
    (tmp_path / "new.json").write_text(json.dumps(values))
    pooled_pairs([new, *three], None, [])
    assert [record.getMessage() for record in caplog.records] == [
        "new: center failed with 3, left out"
    ]


def test_what_it_leaves(three, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", "--pool", *three, "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "center minus plain" in printed and "mean of 3 settings" in printed
    values = json.loads((out / "pool.json").read_text())["pairs"][0]
    assert [x["name"] for x in values["AP50"]["settings"]] == ["clean", "noise", "dice"]
    assert (out / "pool.png").read_bytes().startswith(b"\x89PNG")


def test_files_of_one_name_go_by_their_path(three, tmp_path):
    other = write(tmp_path / "b" / "clean.json", {"plain": variant(2), "center": variant(3)})
    (pair,) = pooled_pairs([three[0], other], None, [])
    assert list(pair.settings["AP"]) == [three[0], other]


BAD = [
    (("CLEAN",), "two comparisons or more"),
    (("CLEAN", "CLEAN"), "is there twice"),
    (("CLEAN", "HERE/none.json"), "none.json: no such file"),
    (("CLEAN", "HERE"), "this folder holds no compare.json"),
    (("CLEAN", "HERE/text.json"), "text.json is no compare.json of a comparison"),
    (("CLEAN", "HERE/list.json"), "list.json is no compare.json of a comparison"),
    (("CLEAN", "HERE/short.json"), "short.json is no compare.json of a comparison"),
    (("CLEAN", "HERE/print.json"), "print.json is no compare.json of a comparison"),
    (("CLEAN", "HERE/seeds.json"), "seeds.json is no compare.json of a comparison"),
    (("CLEAN", "HERE/null.json"), "null.json: plain has a seed without AP"),
    (("CLEAN", "HERE/others.json"), "no two variants are in all comparisons: clean has plain, ce"),
    (("CLEAN", "HERE/apart.json"), "apart: plain and center have fewer than two seeds in common"),
    (("CLEAN", "DICE", "--pair", "plain", "softmax"), "clean has no variant softmax; known: plain"),
    (("CLEAN", "DICE", "--pair", "plain", "plain"), "two different variants"),
    (("CLEAN", "DICE", "--pair", "plain"), "pair"),
    (("CLEAN", "DICE", "--same-validation", "HERE/null.json"), "is not among the files of --pool"),
    (("CLEAN", "DICE", "--set", "center=null"), "leave --set out"),
    (("CLEAN", "DICE", "--runs", "CLEAN"), "leave --runs out"),
    (("CLEAN", "DICE", "--vary", "data.digits.seed=1..8"), "leave --vary out"),
    (("CLEAN", "DICE", "--seeds", "5"), "leave --seeds out"),
    (("CLEAN", "DICE", "--train.lr=0.1"), "leave --train.lr out"),
]


@pytest.mark.parametrize("args, said", BAD)
def test_one_line_for_bad_input(args, said, three, tmp_path, capsys):
    (tmp_path / "text.json").write_text("AP 0.5")
    (tmp_path / "list.json").write_text("[1, 2]")
    for name, values in (("short", [0.5]), ("null", [0.5, None, 0.4])):
        write(tmp_path / f"{name}.json", {"plain": variant(0), "center": variant(1)})
        written = json.loads((tmp_path / f"{name}.json").read_text())
        written["variants"][0]["AP"]["values"] = values
        (tmp_path / f"{name}.json").write_text(json.dumps(written))
    both = {"plain": variant(0), "center": variant(1)}
    write(tmp_path / "print.json", both, validation=None)
    lists = json.loads((tmp_path / "print.json").read_text()) | {"validation": {}}
    lists["variants"][0]["seeds"] = [[0], [1], [2]]
    (tmp_path / "seeds.json").write_text(json.dumps(lists))
    write(tmp_path / "others.json", {"plain": variant(0), "softmax": variant(1)})
    write(tmp_path / "apart.json", {"plain": variant(0), "center": variant(1, (2, 3, 4))})
    words = {"CLEAN": three[0], "DICE": three[2], "HERE": str(tmp_path)}
    for word, path in words.items():
        args = [arg.replace(word, path) for arg in args]
    output = tmp_path / "out"
    assert said in fails(capsys, "compare", "--pool", *args, "--output", output)
    assert not output.exists()


def test_options_of_pool_alone(three, capsys, recipe):
    for option in (("--pair", "a", "b"), ("--same-validation", three[0])):
        assert "go along with --pool" in fails(capsys, "compare", *option)
    assert "leave --config out" in fails(capsys, "compare", "--config", recipe, "--pool", *three)
