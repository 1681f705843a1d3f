"""Whatever ends a bench, what it had measured is in its files and is shown."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.__main__ import main
from bench.ceilings import Ceiling
from bench.load import LoadFailed
from bench.phases import Phase, Row
from bench.years import Years

ENDS = {
    "Ctrl-C": (KeyboardInterrupt(), 130, "the bench was stopped: this is what it had measured"),
    "a load that fails": (LoadFailed("no answer"), 1, "the bench ends here: no answer"),
    "a bug": (IndexError("a bug"), 1, ""),
}
ends = pytest.mark.parametrize(("error", "code", "said"), ENDS.values(), ids=ENDS)


def measured(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "results.json").read_text())
    return found


def bench(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--out", str(folder)])


def a_row(phase: str, system: str) -> Row:
    return Row(phase, system, 1, 7.0, 1.0, 1.0, 1.0, {}, 1.0, {})


@ends
def test_rows_are_kept_as_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    kept: list[int] = []

    def run(phase: Phase, system: str, *_: object) -> Row:
        if (tmp_path / "results.json").exists():
            kept.append(len(measured(tmp_path)["rows"]))  # type: ignore[arg-type]
        if system == "monolith":
            raise error
        return a_row(phase.name, system)

    monkeypatch.setattr("bench.__main__.run", run)

    done = bench(
        tmp_path, "--quick", "--only", "c64", "--system", "saga", "--system", "one-process", *("--system", "monolith")
    )

    assert (done.exit_code, kept) == (code, [1, 2])
    assert said in done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines() if "one-process" in line] == [
        ["one-process", "7", "1.0"]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.svg", "results.txt"]


@ends
def test_so_is_each_part_of_the_years(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def measure_years(years: Years, parts: list[str], *_: object, **__: object) -> None:
        if parts == ["steady"]:
            assert len(measured(tmp_path)["years"]["rates"]) == 1  # type: ignore[index]
            raise error
        years.rates.append(a_row("2 %", "saga"))

    monkeypatch.setattr("bench.__main__.measure_years", measure_years)

    done = bench(tmp_path, "--only", "years", "--part", "rates", "--part", "steady")

    assert (done.exit_code, said in done.stderr) == (code, True)


@ends
def test_so_is_each_ceiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def measure_all(_: float) -> Iterator[Ceiling]:
        yield Ceiling("log", "commit", 1.0, 1.0)
        assert len(measured(tmp_path)["ceilings"]) == 1  # type: ignore[arg-type]
        raise error

    monkeypatch.setattr("bench.__main__.run", lambda phase, system, *_: a_row(phase.name, system))
    monkeypatch.setattr("bench.ceilings.measure_all", measure_all)

    done = bench(tmp_path, "--quick", "--system", "saga")

    assert (done.exit_code, said in done.stderr) == (code, True)


def test_a_bench_that_measured_nothing_leaves_the_results_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> Row:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.__main__.run", run)
    (tmp_path / "results.json").write_text("{}")

    assert bench(tmp_path, "--only", "c64").exit_code == 130
    assert measured(tmp_path) == {}
