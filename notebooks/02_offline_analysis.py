# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Is the new version good enough?
#
# For three weeks `support-v2` ran beside `support-v1`: the first week with 5 % of the conversations, the second with
# 25 %, the third with half. Now somebody has to say whether it may replace it.
#
# The conversations are made up, by a seeded generator that ships with the package, so that we know the truth: **v2
# makes exactly as many errors as v1, solves a few more tasks, and is 12 % slower.** But the weeks were not alike: an
# upstream service got worse all the time, for both versions.

# %%
import numpy as np
import pandas as pd
from IPython.display import display

import agentcanary_analysis as aca

rng = np.random.default_rng(2030)
weeks = [
    aca.generate_history(
        days=7,
        conversations_per_day=3000,
        rng=rng,
        canary="support-v2",
        weights=[weight],
        traffic=aca.Traffic(error_rate=errors, day_spread=0.05, user_spread=0.8, rated=1.0),
        effect=aca.Effect(completion=1.02, latency=1.12),
        start=pd.Timestamp("2026-01-05", tz="UTC") + pd.Timedelta(weeks=number),
    ).assign(epoch=number)
    for number, (weight, errors) in enumerate([(0.05, 0.03), (0.25, 0.05), (0.5, 0.06)])
]
frame = pd.concat(weeks, ignore_index=True)
frame["conversation_id"] = np.arange(len(frame)).astype(str)
frame.head()

# %% [markdown]
# ## The obvious way, and why it is wrong
#
# Add everything up, compare the two versions:

# %%
pooled = frame.groupby("version")["error"].agg(["sum", "size", "mean"])
pooled_change = pooled["mean"]["support-v2"] / pooled["mean"]["support-v1"] - 1
print(f"errors of the canary against stable, all added up: {pooled_change:+.0%}")
pooled

# %% [markdown]
# Week by week there is nothing but noise:

# %%
by_week = frame.pivot_table(index="epoch", columns="version", values="error").assign(
    change=lambda week: week["support-v2"] / week["support-v1"] - 1
)
by_week.style.format({"support-v1": "{:.2%}", "support-v2": "{:.2%}", "change": "{:+.0%}"})

# %% [markdown]
# The canary had most of its conversations in the week in which everything failed more often, and so it looks guilty of
# it. That is Simpson's paradox, and every ramp with a drifting base rate has it. **Counts of epochs with different
# weights must never be added.**
#
# ## The report
#
# `analyze` compares within each epoch. Conversations of one user resemble each other, so the variances are taken by
# user.

# %%
report = aca.analyze(
    frame,
    stable="support-v1",
    canary="support-v2",
    checks=[
        "error_rate_increase < 0.20",
        "task_completion_regression < 0.02",
        "p95_latency_increase < 0.30",
        "satisfaction_regression < 0.02",
    ],
    cluster="user_id",
)
report

# %% [markdown]
# Every line is judged against *its own* boundary: what is shaded is not acceptable. `safe` means proven to be on the
# right side, `harmed` proven to be on the wrong one; everything else is not proven yet, and it says so.

# %% [markdown]
# ## What if we had looked every day?
#
# The test above holds for one look at the end. Who looks every day and stops when it looks good needs evidence that
# stays valid: `method="anytime"`. The e-value of a question rises to its line when it is answered.

# %%
watched = aca.analyze(
    frame,
    stable="support-v1",
    canary="support-v2",
    checks=["error_rate_increase < 0.20", "task_completion_regression < 0.02"],
    method="anytime",
)
for chart in watched.plots(width=480).charts:
    display(chart)

# %% [markdown]
# ## What three weeks can show at all
#
# Before anybody runs another week: this is what so many conversations can find, and what they can rule out.

# %%
canary_units = int((frame["version"] == "support-v2").sum())
provable = aca.can_prove(base_rate=0.05, canary_units=canary_units, weight=0.3)
print(f"{canary_units:,} canary conversations, 5 % errors in stable:")
print(f"they find a canary with {provable.detectable_ratio - 1:.0%} more errors in four cases of five,")
print(f"and prove a harmless one to have at most {provable.certifiable_ratio - 1:.0%} more.")
