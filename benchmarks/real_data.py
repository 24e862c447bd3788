"""What the statistics say of real outcome data whose answers are known.

Run: ``python benchmarks/real_data.py [FOLDER]``, the folder with the data sets (else ``../shared/data``). Prints one
table for each and writes ``benchmarks/results/real_data.json``: figures only, no data.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agentcanary.assignment import bucket
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch
from agentcanary_analysis.bootstrap import Change, proportion_draws
from agentcanary_analysis.bootstrap_intervals import clustered_interval, percentile_interval
from agentcanary_analysis.cells import threshold
from agentcanary_analysis.checks import Boundary, relative_boundary
from agentcanary_analysis.clusters import cluster_tallies
from agentcanary_analysis.confidence_sequences import best_kappa, contrast_of, log_e_contrast
from agentcanary_analysis.evidence import Status, assess
from agentcanary_analysis.histogram import bin_of
from agentcanary_analysis.means import mean_test
from agentcanary_analysis.metrics import P95_LATENCY, Direction, Kind
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.proportion_intervals import newcombe_interval
from agentcanary_analysis.proportions import Proportion, boundary_test, score_test
from agentcanary_analysis.quantile_ratios import quantile_ratio, quantile_ratio_interval
from agentcanary_analysis.variance import Rhythm, design_effect, over_dispersion, rhythm
from benchmarks.article_plan import provenance

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULT = Path(__file__).parent / "results" / "real_data.json"
EQUAL = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
HOUR, DAY = 3600.0, 86400.0
ALPHA = 0.05
SPLITS = 200
LOADS = (100, 200, 300, 400, 500)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    sections = {
        "tau2_fine_tune": tau2_fine_tune,
        "metr": metr,
        "cookie_cats": cookie_cats,
        "asos": asos,
        "burstgpt": burstgpt,
        "vllm": vllm,
    }
    found: dict[str, Any] = {**provenance()}
    for name, section in sections.items():
        found[name] = section(folder)
        print(f"\n{name}\n{json.dumps(found[name], indent=1)}", flush=True)
    RESULT.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def tau2_fine_tune(folder: Path) -> dict[str, Any]:
    """A fine-tuned model against its base, by domain: tasks completed."""
    rows = pd.read_csv(folder / "agents" / "tau2_finetune.csv.gz")
    found = {}
    for domain, part in rows.groupby("domain"):
        stable = arm(part.loc[part["version"] == "gpt-4.1", "completed"])
        canary = arm(part.loc[part["version"] != "gpt-4.1", "completed"])
        low, high = newcombe_interval(canary, stable)
        found[str(domain)] = {
            "stable": [stable.events, stable.units],
            "canary": [canary.events, canary.units],
            "p_two_sided": two_sided(canary, stable),
            "difference": [low, high],
        }
    return found


def metr(folder: Path) -> dict[str, Any]:
    """Three generations of a model on the same tasks, several runs a task: naive and clustered by task."""
    rows = pd.read_csv(folder / "agents" / "metr_runs.csv.gz")
    found = {}
    for stable, canary in (("GPT-4 0314", "GPT-4 Turbo"), ("GPT-4 Turbo", "GPT-4o")):
        arms = [rows[rows["version"] == version] for version in (canary, stable)]
        metrics = {}
        for metric in ("completed", "error"):
            c, s = (arm(one[metric]) for one in arms)
            tallies = [cluster_tallies(one["task_id"].tolist(), one[metric].to_numpy()) for one in arms]
            sums = [sum(tally.values(), start=type(next(iter(tally.values())))()) for tally in tallies]
            clustered = mean_test([sums[0]], [sums[1]], EQUAL, kind=Kind.RATIO)
            if isinstance(clustered, Unknown):
                raise TypeError(f"{metric} of {canary}: {clustered}")
            interval = clustered_interval([tallies[0]], [tallies[1]], rng=np.random.default_rng(1))
            if isinstance(interval.limits, Unknown):
                raise TypeError(f"{metric} of {canary}: {interval.limits}")
            metrics[metric] = {
                "stable": s.rate,
                "canary": c.rate,
                "p_naive": two_sided(c, s),
                "p_clustered_by_task": 2 * min(clustered.p_value, 1 - clustered.p_value),
                "tasks": int(arms[0]["task_id"].nunique()),
                "design_effect": [design_effect(one[metric].to_numpy(float), one["task_id"].tolist()) for one in arms],
                "relative_change_by_task": [*interval.limits, interval.method],
            }
        found[f"{stable} → {canary}"] = metrics
    return found


def cookie_cats(folder: Path, *, draws: int = 200_000) -> dict[str, Any]:
    """A game's gate moved from level 30 to 40: players who came back after a week; z test and bootstrap."""
    rows = pd.read_csv(folder / "abtests" / "cookie_cats.csv.gz")
    stable, canary = (arm(rows.loc[rows["version"] == name, "retention_7"]) for name in ("gate_30", "gate_40"))
    drawn = proportion_draws([canary], [stable], rng=np.random.default_rng(1), change=Change.DIFFERENCE, draws=draws)
    interval = percentile_interval(drawn)
    if isinstance(interval, Unknown):
        raise TypeError(f"the bootstrap gives no interval: {interval}")
    low, high = newcombe_interval(canary, stable)
    below = float((drawn < 0).mean() + 0.5 * (drawn == 0).mean())
    return {
        "stable": [stable.events, stable.units],
        "canary": [canary.events, canary.units],
        "p_z_test": 2 * min((p := score_test([canary], [stable], EQUAL).p_value), 1 - p),
        "p_bootstrap": 2 * min(below, 1 - below),
        "difference_z_test": [low, high],
        "difference_bootstrap": [interval.low, interval.high],
    }


def asos(folder: Path) -> dict[str, Any]:
    """Experiments watched at every checkpoint: how many are ever called significant, by z tests and by e-values."""
    rows = pd.read_csv(folder / "abtests" / "asos_digital_experiments.csv.gz").dropna()
    rows = rows[(rows["variance_c"] > 0) & (rows["variance_t"] > 0) & (rows["count_c"] > 1) & (rows["count_t"] > 1)]
    outcomes: Counter[str] = Counter()
    by_metric: dict[int, Counter[str]] = {}
    for (_, _, metric), part in rows.groupby(["experiment_id", "variant_id", "metric_id"]):
        part = part.sort_values("time_since_start")
        z = (part["mean_t"] - part["mean_c"]) / np.sqrt(
            part["variance_t"] / part["count_t"] + part["variance_c"] / part["count_c"]
        )
        significant = (z.abs() > 1.959964).to_numpy()
        proven = (_log_e_two_sided(part) >= -np.log(ALPHA)).any()
        count = by_metric.setdefault(int(str(metric)), Counter())
        for one in (outcomes, count):
            one["comparisons"] += 1
            one["z_ever"] += int(significant.any())
            one["z_at_the_end"] += int(significant[-1])
            one["z_ever_and_not_at_the_end"] += int(significant.any() and not significant[-1])
            one["ours_ever"] += int(proven)
    shares = {
        key: outcomes[key] / outcomes["comparisons"]
        for key in ("z_ever", "z_at_the_end", "z_ever_and_not_at_the_end", "ours_ever")
    }
    checkpoints = rows.groupby(["experiment_id", "variant_id", "metric_id"]).size()
    return {
        "experiments": int(rows["experiment_id"].nunique()),
        "comparisons": outcomes["comparisons"],
        "median_checkpoints": float(checkpoints.median()),
        "shares": shares,
        "by_metric": {str(metric): dict(count) for metric, count in sorted(by_metric.items())},
    }


def _log_e_two_sided(part: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Log e-value against "no difference" at every checkpoint: the mean of those of both directions."""
    sums = np.array(
        [
            [
                (n := part[f"count_{arm}"].to_numpy(float)),
                n * (mean := part[f"mean_{arm}"].to_numpy(float)),
                part[f"variance_{arm}"].to_numpy(float) * (n - 1) + n * mean**2,
            ]
            for arm in ("t", "c")
        ]
    )
    contrast = contrast_of(sums.transpose(1, 0, 2)[..., None], EQUAL)
    # Tuned to half of the units that came: the size would have been planned.
    planned = 0.5 * float(contrast.effective[-1])
    kappa = best_kappa(planned, ALPHA / 2) * float(part["variance_c"].iloc[0])
    both = [log_e_contrast(contrast, kappa=kappa, sign=sign) for sign in (1.0, -1.0)]
    return np.asarray(np.logaddexp(*both) - np.log(2), dtype=np.float64)


def burstgpt(folder: Path) -> dict[str, Any]:
    """Two months of real traffic by the hour: its daily and weekly profile."""
    rows = pd.read_csv(folder / "traffic" / "burstgpt_by_bin_60m.csv.gz")
    hours = np.arange(0.0, rows["time_bin"].max() + HOUR, HOUR)
    sessions = rows.set_index("time_bin")["session_count"].reindex(hours, fill_value=0).to_numpy(float)
    # Whole weeks, so that each hour and each day comes equally often; time is counted from the trace's start.
    hours, sessions = hours[: 8 * 168], sessions[: 8 * 168]
    daily, weekly = rhythm(hours, sessions), rhythm(hours, sessions, weekly=True)
    between = over_dispersion(hours, sessions, every=DAY)
    if daily is None or weekly is None or between is None:
        raise ValueError("eight weeks of hours have a rhythm to be measured")
    return {
        "hours": len(hours),
        "sessions": int(sessions.sum()),
        "hours_without_sessions": int((sessions == 0).sum()),
        "variance_over_mean_of_hours": float(sessions.var(ddof=1) / sessions.mean()),
        "between_days": between.ratio,
        "daily": _profile(daily),
        "weekly": _profile(weekly),
    }


def _profile(found: Rhythm) -> dict[str, Any]:
    relative = found.values / found.mean
    return {
        "relative": [round(float(value), 3) for value in relative],
        "peak": int(relative.argmax()),
        "peak_over_trough": float(relative.max() / relative.min()),
        "p_value": found.p_value,
    }


def vllm(folder: Path, *, splits: int = SPLITS) -> dict[str, Any]:
    """Latencies measured under rising load: regressions of known cause, and equal loads split by hash."""
    rows = pd.read_csv(folder / "traffic" / "burstgpt_vllm_latency.csv.gz")
    found: dict[str, Any] = {}
    for column in ("first_chunk_time", "total_chunk_time"):
        by_load = {load: rows.loc[rows["scale"] == load, column].to_numpy(float) for load in LOADS}
        stable = histogram(by_load[LOADS[0]])
        regressions = {}
        for load in LOADS[1:]:
            canary = histogram(by_load[load])
            ratio, interval = quantile_ratio([canary], [stable], 0.95), quantile_ratio_interval(canary, stable, 0.95)
            if isinstance(ratio, Unknown) or isinstance(interval, Unknown):
                raise TypeError(f"{column} at load {load}: {ratio}, {interval}")
            regressions[str(load)] = {
                "ratio": ratio,
                "interval": list(interval),
                "found": interval.low > 1,
                "status_at_50_percent": status_of(canary, stable).value,
            }
        flagged, harmed = 0, 0
        for number in range(splits):
            load = LOADS[number % len(LOADS)]
            canary, rest = halves(by_load[load], salt=f"split {number}".encode())
            interval = quantile_ratio_interval(canary, rest, 0.95)
            if isinstance(interval, Unknown):
                raise TypeError(f"{column} at load {load}, split {number}: {interval}")
            flagged += int(not interval.low <= 1 <= interval.high)
            harmed += int(status_of(canary, rest) is Status.HARMED)
        found[column] = {
            "against_load": LOADS[0],
            "regressions": regressions,
            "equal_loads": {"splits": splits, "interval_excludes_1": flagged, "harmed": harmed},
        }
    return found


def arm(values: Iterable[Any]) -> Proportion:
    """Events among units of a column of 0 and 1."""
    column = np.asarray(list(values))
    return Proportion(int(column.sum()), len(column))


def two_sided(canary: Proportion, stable: Proportion) -> float:
    """Two-sided p-value against "no difference"; mid-p where events are rare."""
    p_value = boundary_test([canary], [stable], EQUAL).p_value
    return 2 * min(p_value, 1 - p_value)


def histogram(values: Iterable[float]) -> dict[int, int]:
    """Values by bin."""
    return dict(Counter(bin_of(float(value)) for value in values))


def halves(values: np.ndarray[Any, np.dtype[np.float64]], *, salt: bytes) -> tuple[dict[int, int], dict[int, int]]:
    """One load's requests in two arms, by the hash that assigns conversations."""
    canary = np.array([bucket(salt, f"request {number}").assignment < 0.5 for number in range(len(values))])
    return histogram(values[canary]), histogram(values[~canary])


def status_of(canary: dict[int, int], stable: dict[int, int]) -> Status:
    """What the engine says of a p95 that may rise by half, at weight one half."""
    limit = threshold(stable, 0.95)
    epoch = Epoch(number=0, weight=0.5, stage=0, thresholds={} if limit is None else {P95_LATENCY.name: limit})
    bins = {Cell(P95_LATENCY.name, 0, Arm.CANARY): canary, Cell(P95_LATENCY.name, 0, Arm.STABLE): stable}
    boundary = relative_boundary(P95_LATENCY, 0.5)
    return assess(Aggregates(epochs=(epoch,), histograms=bins), P95_LATENCY, boundary, weight=0.5).status


if __name__ == "__main__":
    main()
