"""The adapters of this folder by the name that a test registers them under: Bench.register takes these."""

from __future__ import annotations

from pathlib import Path

ADAPTERS = Path(__file__).parent
"""The folder that goes on PYTHONPATH."""

WRONG = {
    "flatten-chw": "evenbench_wrong:FlattenCHW",
    "pool-off-by-one": "evenbench_wrong:PoolOffByOne",
    "doubled-learning-rate": "evenbench_wrong:DoubledLearningRate",
    "dampened-momentum": "evenbench_wrong:DampenedMomentum",
    "missing-bias": "evenbench_wrong:MissingBias",
    "uncorrected-adam": "evenbench_wrong:UncorrectedAdam",
}
WRONG_IN_THE_LONG_RUN = {
    "other-beta2": "evenbench_wrong:OtherBeta2",
    "other-epsilon": "evenbench_wrong:OtherEpsilon",
    "clips": "evenbench_wrong:Clips",
    "corrects-late": "evenbench_wrong:CorrectsLate",
    "skips-one-in-twenty": "evenbench_wrong:SkipsOneInTwenty",
}
WRONG_LAYERS = {
    "unbiased-variance": "evenbench_wrong:UnbiasedVariance",
    "other-momentum": "evenbench_wrong:OtherMomentum",
    "swapped-padding": "evenbench_wrong:SwappedPadding",
    "forgets-masks": "evenbench_wrong:ForgetsMasks",
    "drops-nothing": "evenbench_wrong:DropsNothing",
    "first-mask-for-ever": "evenbench_wrong:FirstMaskForEver",
    "drops-more": "evenbench_wrong:DropsMore",
    "no-decay": "evenbench_wrong:NoDecay",
    "no-smoothing": "evenbench_wrong:NoSmoothing",
    "heavy-ball": "evenbench_wrong:HeavyBall",
}
RUDE = {
    "segfaults": "evenbench_rude:Segfaults",
    "is-killed": "evenbench_rude:IsKilled",
    "hangs": "evenbench_rude:Hangs",
    "raises": "evenbench_rude:Raises",
    "refuses": "evenbench_rude:Refuses",
    "runs-out-of-memory": "evenbench_rude:RunsOutOfMemory",
    "exits": "evenbench_rude:Exits",
    "writes-garbage": "evenbench_rude:WritesGarbage",
    "prints": "evenbench_rude:Prints",
    "not-a-number": "evenbench_rude:LossIsNotANumber",
}
RIGHT = {"third-party": "evenbench_wrong:Right"}
KNOWN = {
    "constant": "evenbench_known:Constant",
    "twice": "evenbench_known:Twice",
    "bimodal": "evenbench_known:Bimodal",
    "drifting": "evenbench_known:Drifting",
    "slowly-warming": "evenbench_known:SlowlyWarming",
    "varying": "evenbench_known:Varying",
    "sleeps": "evenbench_known:Sleeps",
    "allocates": "evenbench_known:Allocates",
}
SCALING = {
    "summed": "evenbench_scaling:Summed",
    "alone": "evenbench_scaling:Alone",
    "lazy": "evenbench_scaling:Lazy",
}
