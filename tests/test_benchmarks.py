"""The benchmark suite runs, its JSON keeps to a schema and the README's table is made from it. No time is asserted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the suite is no part of the package

from benchmarks import __main__ as suite  # noqa: E402
from benchmarks import measure, scaling, scoring, table  # noqa: E402

FACTS = {"date", "machine", "system", "processors", "python", "threads", "load", "versions", "options", "accelerator"}
COLUMNS = {
    "benchmark": str, "what": str, "ours": float, "baseline": (float, type(None)), "baseline_name": str, "unit": str,
    "goal": (float, type(None)), "limit": (list, type(None)), "repeats": int, "note": str, "threads": int,
    "load": (float, type(None)), "ratio": (float, type(None)), "met": (bool, type(None)),
}  # fmt: skip


@pytest.fixture
def one_repeat(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(measure.Options, "repeats", property(lambda self: 1))
    monkeypatch.setattr(scaling, "REPEATS", 1)
    yield
    torch.set_num_threads(threads)


def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    return path


def row(**more) -> measure.Row:
    return measure.Row(**({"benchmark": "b", "what": "w", "ours": 1.0} | more))


def test_a_quick_run_writes_json_of_the_schema_and_the_table_of_a_readme(tmp_path, capsys, one_repeat):
    path, page = tmp_path / "run.json", readme(tmp_path)
    some = ["scoring", "statistics_laws"]
    assert suite.main(["--quick", "--only", *some, "--json", str(path), "--readme", str(page)]) == 0
    values = json.loads(path.read_text())
    assert values["schema"] == table.SCHEMA and set(values["facts"]) >= FACTS and values["skipped"] == {}
    assert {r["benchmark"] for r in values["rows"]} == set(some)
    for found in values["rows"]:
        assert set(found) == set(COLUMNS)
        assert all(isinstance(found[name], kind) for name, kind in COLUMNS.items()), found
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert all(r["what"] in text for r in values["rows"])
    assert "goals met" in capsys.readouterr().out


def test_the_suite_finds_every_module_with_rows_and_nothing_else():
    assert {"startup", "scoring", "scaling", "peers", "analysis_scale", "statistics_laws", "steering_grid"} <= set(
        suite.found()
    )
    assert not set(suite.found()) & {"measure", "subjects", "table", "peer_script"}


@pytest.mark.slow
def test_the_accelerators_table_comes_by_one_command(tmp_path, capsys):
    from benchmarks import accelerator

    readme, kept = tmp_path / "README.md", tmp_path / "a.json"
    readme.write_text(f"above\n{accelerator.BEGIN}\nold\n{accelerator.END}\nbelow\n")
    command = ["--shape", "tiny", "--device", "cpu", "--threads", "1", "--json", str(kept), "--readme", str(readme)]
    assert accelerator.main(command) == 0
    whats = {row.what for row in table.read_json(kept)["rows"]}
    for what in ("every layer read, against the bare body", "2 x 3 sampled, against greedy", "3 x 3 greedy",
                 "grid of 12 texts, against Hugging Face"):  # fmt: skip
        assert f"{what}, tiny" in whats, whats
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text
    assert (
        text.count("to be measured") == len(accelerator.BEFORE) and "7.18 / 1.17 s" in text and "cpu, float32" in text
    )
    capsys.readouterr()


def test_the_accelerators_rows_are_those_that_were_measured_before():
    """By shape and size: each has its figure of before, so that none is left out of a run on a GPU."""
    from benchmarks.accelerator import BEFORE, Sizes

    sizes = Sizes()
    grids = [4 * (1 + emotions * doses * sets) for emotions, doses, sets in sizes.grids]
    assert [f"grid of {n:,} texts, against one by one" in {what for what, _ in BEFORE} for n in grids] == [True, True]
    sampled = {f"{n} x {sizes.tokens} sampled" for n in sizes.sampled}
    assert sampled | {f"{n} x {sizes.tokens} greedy" for n in sizes.greedy} <= {what for what, _ in BEFORE}


def test_ratio_is_baseline_over_ours_and_a_goal_can_be_missed():
    assert row(ours=2.0, baseline=4.0, goal=2.0).met is True
    assert row(ours=2.0, baseline=4.0, goal=2.1).met is False
    assert row(ours=0.5, limit=(0.0, 1.0)).met is True and row(ours=1.5, limit=(0.0, 1.0)).met is False
    assert row(ours=1.0, baseline=2.0).met is None
    assert "**no**" in table.cells(row(ours=2.0, baseline=4.0, goal=2.1))


def test_a_row_survives_json_and_other_benchmarks_are_kept(tmp_path):
    first, second = row(baseline=2.0, baseline_name="x", goal=1.0), row(benchmark="c", limit=(0.0, 2.0))
    table.write_json(tmp_path / "a.json", {}, [first, second], {})
    assert table.read_json(tmp_path / "a.json")["rows"] == [first, second]
    again = row(ours=3.0)
    assert table.merged([first, second], [again]) == [again, second]


def test_another_schema_or_a_readme_without_markers_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="run the suite again"):
        table.read_json(tmp_path / "a.json")
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="needs one line"):
        table.write_readme({}, tmp_path / "README.md")


def test_the_readme_of_the_suite_can_take_the_table():
    assert (ROOT / "benchmarks" / "README.md").read_text().count(table.BEGIN) == 1


def test_calls_take_turns_and_each_is_warmed_up_once():
    seen = []
    samples = measure.interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 2)
    assert seen == ["b", "a", "a", "b", "b", "a"]  # a warm-up first, and nobody always after the same one
    assert all(len(s.times) == 2 for s in samples.values())


def test_live_tensors_are_counted_until_they_are_let_go_without_the_model():
    from benchmarks.memory import peak_live

    model, mib = torch.nn.Linear(512, 512, bias=False), 2**18

    def call():
        torch.zeros(8 * mib)  # let go at once
        a = torch.zeros(mib)
        b = a + 1
        view = b[:10]  # no memory of its own
        return model(view.new_zeros(1, 512)).sum() + a.sum()

    with torch.inference_mode():
        assert peak_live(call, model) == pytest.approx(8, abs=0.01)
        assert peak_live(lambda: model.weight + 1, model) == pytest.approx(1, abs=0.01)
        assert peak_live(lambda: [torch.zeros(mib) for _ in range(3)], model) == pytest.approx(3, abs=0.01)


def test_the_peak_of_memory_is_that_of_the_call_alone():
    held = torch.zeros(30 * 2**18)  # held before: does not count
    samples = measure.interleaved({"big": lambda: torch.ones(60 * 2**18).sum(), "small": lambda: 1}, 1)
    if samples["big"].peak_mib is None:
        pytest.skip("this system does not tell the peak of memory")
    assert samples["big"].peak_mib >= 50 and samples["small"].peak_mib < 30 and len(held)


def test_a_benchmark_that_cannot_run_or_fails_does_not_stop_the_others(monkeypatch, capsys):
    def skips(options):
        raise measure.Skipped("not here")

    def fails(options):
        raise RuntimeError("broken")

    monkeypatch.setattr(suite, "found", lambda: {"a": skips, "b": fails, "c": lambda options: [row()]})
    rows, skipped, failed = suite.run([], measure.Options())
    assert len(rows) == 1 and failed == ["b"]
    assert skipped == {"a": "not here", "b": "failed: RuntimeError: broken"}


def test_the_exponent_of_growth_is_that_of_the_law():
    x = (1, 2, 4, 8)
    assert scaling.growth(x, [3.0 * v for v in x]).exponent == pytest.approx(1)
    assert scaling.growth(x, [3.0 * v**2 for v in x]).exponent == pytest.approx(2)
    line = scaling.growth(x, [5.0 + 3 * v for v in x])
    assert (line.start, line.slope, line.r2) == pytest.approx((5, 3, 1))


def test_ways_that_disagree_are_not_timed():
    import numpy as np

    with pytest.raises(AssertionError):
        scoring._agree(np.ones(3), 1.1 * np.ones(3))
