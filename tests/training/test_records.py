import math

from detcenter.training import RunRecords


class Accelerator:
    """The part that records use."""

    is_main_process = True

    def __init__(self):
        self.logged = []

    def log(self, values, step):
        self.logged.append((step, values))


def test_trackers_get_names_that_all_of_them_take_and_no_nan(tmp_path):
    accelerator = Accelerator()
    records = RunRecords(tmp_path, accelerator, [{"epoch": "1", "AP": "0.5"}])
    numbers = {"AP": 0.25, "AP_by_class/Käfer (rot)": 1.0, "AP_by_class/ant": math.nan}
    records.add(2, numbers)
    assert accelerator.logged == [(2, {"AP": 0.25, "AP_by_class/Käfer _rot_": 1.0})]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["epoch,AP,AP_by_class/Käfer (rot),AP_by_class/ant", "1,0.5,,", "2,0.25,1,nan"]
