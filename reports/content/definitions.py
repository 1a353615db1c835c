"""What every figure means: the text under each report, and the names of the columns."""

from __future__ import annotations

FIGURES = {
    "throughput": "images/s: images over the wall time that they took, between two fences (device synchronized), after"
    " warm-up. Training is forward, loss, backward and update; inference gives logits.",
    "latency_p50": "median of the wall time of single calls at batch size 1, each up to its fence (type 7 quantile per"
    " process, geometric mean over processes).",
    "latency_p90": "as latency_p50, 90th percentile.",
    "latency_p99": "as latency_p50, 99th percentile.",
    "cold_start": "seconds from the spawn of a fresh process to its first logits at batch size 1: interpreter, import,"
    " model, weights, first call. Files are in the operating system's page cache.",
    "first_call": "seconds of the very first inference call of a process (tracing, compiling, lazy set-up),"
    " batch size 1.",
    "fit": "seconds of all training steps of the recipe in a fresh process: tracing, compiling and copies to the"
    " device included; shuffling, normalizing and evaluating not.",
    "export": "seconds of the framework's own ONNX exporter.",
    "accuracy": "top-1 on the test split after the recipe (mean over seeds, Student t interval); for a runtime, that of"
    " the exported model of the first seed.",
    "top5_accuracy": "share of the test split whose label is among the five largest logits, first seed. 1.0 (usual on"
    " digits) says that none of these images missed, not that none would.",
    "time_to_accuracy": "seconds of training steps until an evaluation of the watched split (validation, or test where"
    " none is held out), four per epoch, first reached the target; evaluation apart. Mean over seeds.",
    "loss": "mean softmax cross-entropy (nats) on the test split after the recipe, from float32 logits in float64.",
    "peak_rss": "peak resident set size (physical memory) of the measuring worker's process tree: the kernel's"
    " high-water mark from its start to the end of inference, and from there to the end of training (with what"
    " inference left; where the mark cannot be reset, since its start). 1 MB is 10^6 bytes.",
    "peak_device_memory": "GPU memory that the worker's process holds at its end, by NVML (allocators keep what they"
    " reached; a runtime holds a session per batch size); how it was found is in the record. CUDA only.",
    "model_size": "bytes of the exported ONNX file.",
    "parameters": "trained values of the model, computed from its layers; parity checks the framework's count.",
    "flops": "floating-point operations of one image's forward pass: 2 per multiply-accumulate of convolutions and"
    " dense layers, nothing else.",
}

TERMS = {
    "end-to-end": "from images in host memory (N, H, W, C) to logits in host memory: layout, copies, model. For"
    " training: from host images and labels to the update.",
    "device": "inputs already on the device in the framework's own layout, results left there; on a CPU the copies"
    " and layout are what differs.",
    "± and n": "half-width of the 95% interval of the geometric mean over n fresh processes (Student t on"
    " logarithms), as a percentage; with n = 1 there is none.",
    "× fastest": "ratio to the fastest comparable row: per round the median over the turns, of slices that followed"
    " one another (of tails and starts, the ratio of the two processes' values); over rounds the geometric mean with"
    " its 95% interval. Throughput below 1 and time above 1 are slower. A slow stretch of the machine falls on both"
    " slices of a turn: so it may differ from the ratio of the two figures, and is narrower.",
    "warm-up": "steps until their times are steady by MSER-5 (White 1997; White, Cobb & Spratt 2000): the cut that"
    " minimizes the standard error of the rest lies in the first half. At least 3 steps and 0.2 s, at most 2 s.",
    "slice": "four steps, at least 60 and at most 150 ms of them (one step if it takes longer), between two fences;"
    " slices of live workers alternate, and only one runs.",
    "(!) disturbed": "more than half of one process' slices of a figure were above a limit"
    " (bench/machine/slice_noise.py): steal, other processes on its cores, waiting for a core, pages read from disk,"
    " falling clocks. Marked slices are measured again (up to as many more as there are slices) and count only where"
    " nothing else is left; all are in the record.",
    "steal, others, waited": "shares of the CPU time of the row's cores during its slices: taken by the hypervisor;"
    " used by other processes and interrupts. waited: share of the time in which the worker's own threads ran or were"
    " ready, in which they had no core.",
    "page faults per step": "minor and major faults of the worker's process in its slices, over the steps in them.",
    "same accuracy": "two one-sided t tests (Schuirmann 1987) over paired seeds: the 90% interval of the mean"
    " difference lies within the margin. DIFFERENT: it lies wholly outside; inconclusive: neither.",
    "comparable": "every check of the parity certificate passed: the row does the same computation as the float64"
    " reference, within the tolerance shown.",
    "n/m": "not measured, for the reason given in the note of that letter.",
}
