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
# # Which thresholds can our traffic bear?
#
# "Errors up by more than 5 %: roll back" is quickly written. Whether it is a sensible rule for *this* agent is a matter
# of how many conversations it has, and of how much its numbers move when nothing has changed. Both are in its history.
# Nothing has to be released to find out.
#
# The method is an A/A replay: a plan is played on the past, again and again, with conversations that were all served by
# one version. Every rollback is then a false one. After that the pretended canary is made worse on purpose, to see
# which harm would have been found.

# %%
import numpy as np
from IPython.display import display

import agentcanary
import agentcanary_analysis as aca

# %% tags=["parameters"]
DAYS, PER_DAY, REPLAYS, HARMS = 28, 3000, 200, (1.25, 1.5, 2.0, 3.0)

# %%
rng = np.random.default_rng(11)
traffic = aca.Traffic(error_rate=0.05, completion_rate=0.85, day_spread=0.15, violation_rate=0.0)
history = aca.generate_history(days=DAYS, conversations_per_day=PER_DAY, rng=rng, traffic=traffic)
history.sample(5, random_state=1)

# %% [markdown]
# Here the history is generated, with what real traffic has: quiet nights and weekends, days that differ, users who come
# back, turns that take forever. Yours comes from a file, or from the store: `agentcanary calibrate HISTORY` does all of
# this at once.
#
# ## The plan that somebody would write

# %%
PLAN = """
agent: support
stable: support-v1
canary: support-v2
canary_stages:
  - name: few
    weight: 0.05
    duration: 2h
    min_requests: 50
    checks: ["error_rate_increase < 0.10"]
  - name: half
    weight: 0.5
    duration: 4h
    min_requests: 500
    checks: ["error_rate_increase < 0.05", "task_completion_regression < 0.02"]
  - name: all
    weight: 1.0
    duration: 0s
"""
calibration = agentcanary.calibrate(
    history, agentcanary.parse_config(PLAN), replays=REPLAYS, ratios=HARMS, rng=np.random.default_rng(1)
)
for sentence in calibration.sentences():
    print(sentence)

# %% [markdown]
# The same thresholds, two ways to use them. Read as a plain comparison of two rates, they take back most of the
# versions that are no different at all. Read as boundaries that must be *proven* to be crossed, they keep what was
# promised. The price is patience: not every harmless version is proven harmless in time.
#
# ## What it would find

# %%
display(calibration.plot("detection", metric="error_rate"))
calibration.to_frame("detection").query("metric in ['none', 'error_rate']").round(2)

# %% [markdown]
# ## Why before and after is never a comparison
#
# Errors follow the load: there are far more of them at noon than at night, whoever serves. A canary that ran in the
# afternoon, compared with a stable version that ran in the early morning, would be found guilty of the time of day. And
# a stage that lasts two hours has seen two hours.

# %%
calibration.plot("hours", metric="error_rate")

# %% [markdown]
# ## What the plan should say instead
#
# A margin is worth having if a harmless version can be proven to keep it, in eight rollouts of ten.

# %%
margins = calibration.to_frame("margins")
provable = margins.pivot_table(index="margin", columns="metric", values="proven")
provable.style.format("{:.0%}", na_rep="").format_index("{:.1%}")

# %%
print(calibration.to_yaml(PLAN))

# %% [markdown]
# The recommendations come with their reasons, and with what the history is too short to tell:

# %%
for sentence in (*calibration.unknown, *calibration.notes):
    print("-", sentence)
