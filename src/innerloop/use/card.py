"""README.md of what is taken away: what it is, how good, how to use it."""

from typing import Any

from innerloop.runs.folder import Results

HEAD = """---
library_name: innerloop
tags: [meta-learning, few-shot-learning]
---
"""


def card_of_learner(about: dict[str, Any], results: Results | None) -> str:
    """In the form of a hub's model card. results: of the run, where it is known."""
    algo, model = (str(about[group]["_target_"]).rsplit(".", 1)[-1] for group in ("algo", "model"))
    parts = [
        f"{HEAD}\n# {algo} on {about['task']}\n",
        f"A few-shot learner made by innerloop {about['innerloop']}: {algo}, a {model}, trained on "
        f"tasks of `{about['task']}`. It learns a new task from a few examples.\n",
        USE_LEARNER.strip() + "\n",
        "## What it takes\n\n" + inputs_of(about) + "\n",
    ]
    if results:
        parts.append(scores_of(results))
    parts.append(LIMITS.strip() + "\n")
    return "\n".join(parts)


USE_LEARNER = """
## Use

```python
import innerloop

learner = innerloop.load("THIS FOLDER")
learner.fit("support/")      # a folder for each class with a few examples; a CSV file; or arrays: fit(x, y)
learner.predict("new/")      # a label for each file
```
"""

LIMITS = """
## Limits

- What a new task must have in common with those of training is not known beforehand: `innerloop predict` tells what to expect, by leaving
  the examples out one by one.
- Confidence is calibrated on validation tasks of the kind that it was trained on.
- Every input gets one of the support set's classes, also where it is of none.
"""


def inputs_of(about: dict[str, Any]) -> str:
    reader = about["reader"]
    if reader["kind"] == "pictures":
        ink = " Dark strokes on a light ground are turned into bright ones on black." if reader["ink"] else ""
        kind = {1: "grey", 3: "colour"}[reader["channels"]]
        text = f"Pictures of any size; they are scaled to {reader['width']}x{reader['height']}, in {kind}.{ink}"
    elif reader["kind"] == "texts":
        text = f"Texts, of which the first {reader['length']} tokens are read."
    elif reader["kind"] == "recordings":
        text = f"Recordings (.wav) of {reader['rate']} samples a second, of which the first {reader['seconds']} s are heard."
    else:
        names = f" ({', '.join(reader['columns'])})" if reader["columns"] else ""
        text = f"Numbers of shape {tuple(reader['shape'])}{names}."
    if about.get("backbone"):
        text += " A frozen network sees them first, which is not part of this folder: learner.json names it, under `backbone`."
    if about["metric"] != "accuracy":
        return f"{text} It answers with {about['outputs']} number{'s' * (about['outputs'] > 1)}."
    return text + (f" Trained on {about['ways']} classes at a time." if about["ways"] else "")


def scores_of(results: Results) -> str:
    percent = 100 if results["metric"] == "accuracy" else 1
    unit = " %" if percent == 100 else ""
    lines = [
        "## Results\n",
        f"Of the run that it was trained in, on {results['episodes']} test episodes ({ways_of(results)}), seed {results['seed']}, mean and "
        "95 % interval over episodes. Command and commit:\n",
        f"    {results['command']}\n    {results['commit']}\n",
        f"| adaptation steps | {results['metric']} |",
        "|---|---|",
    ]
    for point in results["curve"]:
        value = "diverged" if point["value"] is None else f"{percent * point['value']:.4g} ± {percent * point['ci95']:.2g}{unit}"
        lines.append(f"| {point['step']} | {value} |")
    return "\n".join(lines) + "\n"


def ways_of(results: Results) -> str:
    ways = f"{results['ways']}-way " if results["ways"] else ""
    return f"{ways}{results['shots']}-shot{', transductive' if results['transductive'] else ''}"


def card_of_network(about: dict[str, Any], network: dict[str, Any], examples: int, onnx: bool) -> str:
    """Of an adapted network."""
    classes = f"\nClasses, in the order of the logits: {', '.join(map(str, network['classes']))}.\n" if network["classes"] else ""
    shape = f"(n, {', '.join(map(str, network['input_shape']))}) {network['input_type']}"
    parts = [
        f"# A network fitted to {examples} examples\n",
        f"Made by innerloop {about['innerloop']} from a learner of `{about['task']}`. `x` is {shape}, for any n; no answer depends on "
        f"another input.\n{classes}",
        "## What it takes\n\n" + inputs_of(about) + "\n",
        "network.json says it for programs. The softmax of the logits divided by its `temperature` says how sure an answer is.\n"
        if network["classes"]
        else "network.json says it for programs.\n",
        '## Use\n\n```python\nimport torch\n\nnetwork = torch.export.load("network.pt2").module()  # innerloop is not needed\n'
        "y = network(x)\n```\n",
    ]
    if onnx:
        parts.append('```python\nimport onnxruntime\n\ny = onnxruntime.InferenceSession("network.onnx").run(None, {"x": x})[0]\n```\n')
    return "\n".join(parts)
