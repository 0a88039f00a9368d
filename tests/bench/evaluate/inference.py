"""Answers of adapters of 14 tasks: ours in mixed batches, against stock PEFT one row at a time.

Both see the same test rows, eight of each task whose prompts have at most 1,024 tokens, and the
same adapter, exported. Of two adapters the first holds random values: most answers run to their 48
tokens, and their words hang on small differences. The second was trained for some minutes: its
answers end sooner, so that what is left is mostly reading the prompts, and are surer. The peer is
transformers' ``generate`` over PEFT with the row's task set, one row at a time, once. Where an
answer differs, the peer's own logits at the first differing token say how near a tie it was.
"""

import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline import paths
from pipeline.params import Params
from tests.bench import base, records
from tests.bench.children import Result, measure
from tests.bench.table import REPORTS, Row

EACH = 8
"""Test rows of a task."""
MAX_TOKENS = 1_024
NEW = 48
FOLDER = REPORTS / "evaluate" / "adapters"
RANDOM, TRAINED = "random", "trained"
SPREAD = 0.01
"""Standard deviation of the random B: answers differ by task, and are still language."""
DRAWS, VALIDATION = 280, 1
"""Records that the second adapter is trained on, of each task alike, and those of a task that validate."""
BATCH = 8
TIE = 0.01
"""Nats between the best two tokens, below which float32's rounding may exchange them."""


def rows() -> list[Row]:
    """Generation in float32 and bfloat16, and scored choices; the rows of the issue."""
    base.prepare()
    measure(f"{__name__}:prepare")
    measure(f"{__name__}:train")
    peer, float32, bfloat16 = _three(RANDOM)
    other = [
        i
        for i, pair in enumerate(zip(float32["answers"], peer["answers"], strict=True))
        if pair[0] != pair[1]
    ]
    gaps = measure(
        f"{__name__}:gaps",
        rows=other,
        ours=[float32["answers"][i] for i in other],
        tokens=[peer["tokens"][i] for i in other],
    )
    same = 1 - len(other) / len(peer["answers"])
    equal = _equal(float32, bfloat16)
    trained_peer, trained32, trained16 = _three(TRAINED)
    trained_equal = _equal(trained32, trained16)
    times = [trained_peer["seconds"] / each["seconds"] for each in (trained32, trained16)]
    choices = measure(f"{__name__}:choices_together")
    alone = measure(f"{__name__}:choices_alone")
    picked = [ours == theirs for ours, theirs in zip(choices["chosen"], alone["chosen"], strict=True)]
    count = len(peer["answers"])
    return [
        Row(
            "generation, float32: rows/s, ours / one by one",
            peer["seconds"] / float32["seconds"], 1.0, ">=", 4.5,
            f"{count / float32['seconds']:.2f} against {count / peer['seconds']:.2f} rows/s, {count} rows",
        ),
        Row("the same answers", same, None, ">=", 0.99, f"{len(other)} of {count} differ"),
        Row(
            "the widest gap between the best two tokens where answers part",
            max(gaps["gaps"], default=0.0), None, "<=", TIE, "nats, by the peer's logits",
        ),
        Row(
            "generation, bfloat16: rows/s, ours / one by one in float32",
            peer["seconds"] / bfloat16["seconds"], 1.0, ">=", 7.0,
            f"{count / bfloat16['seconds']:.2f} rows/s",
        ),
        Row(
            "bfloat16: answers equal in score to those in float32",
            sum(equal) / count, None, ">=", 0.97, f"{count - sum(equal)} of {count} differ",
        ),
        Row(
            "the same with a trained adapter",
            sum(trained_equal) / count, None, ">=", 0.97,
            f"{count - sum(trained_equal)} of {count} differ; its answers, {_words(trained32):.0f} words against "
            f"{_words(float32):.0f}, come {times[0]:.1f} times as quickly in float32, {times[1]:.1f} in bfloat16",
        ),
        Row(
            "scored choices: rows/s, ours / a full pass for each choice",
            alone["seconds"] / choices["seconds"], 1.0, ">=", 4.0,
            f"{len(picked) / choices['seconds']:.2f} against {len(picked) / alone['seconds']:.2f} rows/s",
        ),
        Row("the same choices", sum(picked) / len(picked), None, ">=", 1.0, f"{len(picked)} rows"),
    ]  # fmt: skip


def _three(adapter: str) -> tuple[Result, Result, Result]:
    """The peer, ours in float32, ours in bfloat16."""
    ours = [
        measure(f"{__name__}:together", dtype=dtype, adapter=adapter) for dtype in ("float32", "bfloat16")
    ]
    return measure(f"{__name__}:one_by_one", adapter=adapter), ours[0], ours[1]


def _equal(one: Result, other: Result) -> list[bool]:
    """Of each row, whether both answers score the same."""
    scores = measure(f"{__name__}:scores", answers=[one["answers"], other["answers"]])["scores"]
    return [abs(a - b) < 1e-9 for a, b in zip(*scores, strict=True)]


def _words(measured: Result) -> float:
    """Words of an answer, in the mean."""
    return statistics.fmean(len(answer.split()) for answer in measured["answers"])


class Asked(NamedTuple):
    """The test rows as prompts; ``choices`` are token ids with the end, None where none are scored."""

    frame: Any
    prompts: list[list[int]]
    tasks: list[str]
    choices: list[list[list[int]] | None]


def prepare() -> Result:
    """Write the random adapter, and its exported LoRAs, into FOLDER."""
    import torch

    from pipeline import base as models
    from pipeline.moelora import MoeLoraConfig, inject

    params = Params.load()
    tasks = tuple(sorted(records.read("test")["task"].unique()))
    model, _ = models.load(params.compute)
    adapter = inject(model, MoeLoraConfig(tasks=tasks, rank=16, experts=8, alpha=32.0))
    random = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.B.normal_(0, SPREAD, generator=random)
    _write(adapter, RANDOM)
    return {}


def train() -> Result:
    """Write the trained adapter, and its exported LoRAs, into FOLDER."""
    from pipeline import base as models
    from pipeline.moelora import saving
    from pipeline.stage import Progress
    from pipeline.train.__main__ import run as train_stage
    from tests.bench.method.cell import lay_out, with_train

    params = Params.load()
    models_at = paths.BASE.resolve()
    tasks = tuple(sorted(records.read("test")["task"].unique()))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        lay_out(params, tasks, tasks, 17, DRAWS, VALIDATION)
        paths.BASE.parent.mkdir(exist_ok=True)
        paths.BASE.symlink_to(models_at)
        train_stage(with_train(params, {"batch_records": BATCH}), Progress("train"))
        model, _ = models.load(params.compute)
        adapter = saving.load(model, paths.ADAPTER)
    _write(adapter, TRAINED)
    return {}


def _write(adapter: Any, name: str) -> None:
    from pipeline.export import write_task_lora
    from pipeline.moelora import saving

    shutil.rmtree(FOLDER / name, ignore_errors=True)
    (FOLDER / name).mkdir(parents=True)
    saving.save(adapter, FOLDER / name)
    for task in adapter.config.tasks:
        write_task_lora(adapter, task, FOLDER / name / "tasks" / task, Params.load().base)


def together(dtype: str, adapter: str) -> Result:
    """``seconds`` of our ``answers`` in mixed batches."""
    from pipeline.evaluate.generate import generate
    from pipeline.evaluate.system import System

    params, model, tokenizer, loaded = _load(dtype, adapter)
    asked = _asked(tokenizer)
    system = System(model, tokenizer, loaded)
    generate(system, asked.prompts[:2], asked.tasks[:2], 2, params.evaluate.batch_tokens)
    start = time.perf_counter()
    answers = generate(system, asked.prompts, asked.tasks, NEW, params.evaluate.batch_tokens)
    return {"seconds": time.perf_counter() - start, "answers": answers}


def one_by_one(adapter: str) -> Result:
    """``seconds`` of the peer's ``answers``, and their ``tokens``."""
    import torch

    model, tokenizer = _stock(adapter)
    asked = _asked(tokenizer)
    answers, tokens = [], []
    _answer(model, asked.prompts[0], asked.tasks[0], 2)
    start = time.perf_counter()
    for prompt, task in zip(asked.prompts, asked.tasks, strict=True):
        tokens.append(_answer(model, prompt, task, NEW))
        answers.append(tokenizer.decode(tokens[-1], skip_special_tokens=True).strip())
    seconds = time.perf_counter() - start
    assert torch.get_num_threads() == Params.load().compute.threads
    return {"seconds": seconds, "answers": answers, "tokens": tokens}


def gaps(rows: Sequence[int], ours: Sequence[str], tokens: Sequence[Sequence[int]]) -> Result:
    """Nats between the peer's best two tokens where our answer leaves the peer's."""
    import torch

    model, tokenizer = _stock(RANDOM)
    asked = _asked(tokenizer)
    found = []
    for row, answer, said in zip(rows, ours, tokens, strict=True):
        agreed = 0
        while agreed < len(said) and answer.startswith(
            tokenizer.decode(said[: agreed + 1], skip_special_tokens=True).strip()
        ):
            agreed += 1
        model.set_adapter(asked.tasks[row])
        with torch.inference_mode():
            logits = model(torch.tensor([[*asked.prompts[row], *said[:agreed]]])).logits[0, -1]
        best = logits.log_softmax(-1).topk(2).values
        found.append(float(best[0] - best[1]))
    return {"gaps": found}


def scores(answers: Sequence[Sequence[str]]) -> Result:
    """Of each system's answers, the score of each row by itself."""
    from pipeline import metrics
    from pipeline.metrics import METRICS, metric_for

    params = Params.load()
    from transformers import AutoTokenizer

    frame = _asked(AutoTokenizer.from_pretrained(paths.BASE)).frame
    found = []
    for system in answers:
        of_system = []
        for answer, (task, kind, target, language, choices) in zip(
            system,
            frame.select("task", "task_type", "target", "language", "answer_choices").iter_rows(),
            strict=True,
        ):
            name = metric_for(task, kind, params.evaluate)
            row = metrics.Row(target, language, tuple(choices) if choices else None)
            labels = metrics.label_space([row], [answer], metric=name)
            counts = METRICS[name].statistics([row], [answer], labels)
            of_system.append(float(METRICS[name].score(counts.sum(axis=0))))
        found.append(of_system)
    return {"scores": found}


def choices_together() -> Result:
    """``seconds`` and the ``chosen`` of our scoring."""
    from pipeline.evaluate.likelihood import log_likelihoods
    from pipeline.evaluate.system import System

    params, model, tokenizer, adapter = _load("float32", RANDOM)
    prompts, tasks, choices = _closed(_asked(tokenizer))
    system = System(model, tokenizer, adapter)
    log_likelihoods(system, prompts[:2], tasks[:2], choices[:2], params.evaluate.batch_tokens)
    start = time.perf_counter()
    scores = log_likelihoods(system, prompts, tasks, choices, params.evaluate.batch_tokens)
    return {"seconds": time.perf_counter() - start, "chosen": [row.index(max(row)) for row in scores]}


def choices_alone() -> Result:
    """The same by a full pass of stock PEFT for each choice."""
    import torch

    model, tokenizer = _stock(RANDOM)
    prompts, tasks, choices = _closed(_asked(tokenizer))
    chosen = []
    start = time.perf_counter()
    for prompt, task, given in zip(prompts, tasks, choices, strict=True):
        model.set_adapter(task)
        found = []
        for answer in given:
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + answer[:-1]]), use_cache=False).logits[0]
            told = logits[len(prompt) - 1 :].log_softmax(-1)
            found.append(float(told[range(len(answer)), answer].sum()))
        chosen.append(found.index(max(found)))
    return {"seconds": time.perf_counter() - start, "chosen": chosen}


def _asked(tokenizer: Any) -> Asked:
    """EACH rows of every task, by the hash of their ids; those whose prompts must be cut come last."""
    from pipeline.evaluate.answers import question
    from tests.bench.method.cell import some

    frame = some(records.read("test"), 60 * EACH)
    columns = frame.select("task", "task_type", "input", "answer_choices")
    asked = [
        question(tokenizer, task, kind, text, choices, MAX_TOKENS)
        for task, kind, text, choices in columns.iter_rows()
    ]
    taken: dict[str, list[int]] = {}
    for place, each in sorted(enumerate(asked), key=lambda pair: len(pair[1].prompt) == MAX_TOKENS):
        if len(taken.setdefault(each.task, [])) < EACH:
            taken[each.task].append(place)
    kept = sorted(place for places in taken.values() for place in places)
    chosen = [asked[place] for place in kept]
    return Asked(
        frame[kept],
        [each.prompt for each in chosen],
        [each.task for each in chosen],
        [list(each.choices.values()) if each.choices else None for each in chosen],
    )


def _closed(asked: Asked) -> tuple[list[list[int]], list[str], list[list[list[int]]]]:
    rows = [row for row in zip(asked.prompts, asked.tasks, asked.choices, strict=True) if row[2]]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] or [] for row in rows]


def _load(dtype: str, adapter: str) -> tuple[Params, Any, Any, Any]:
    from pipeline import base as models
    from pipeline.moelora import saving

    params = Params.load()
    model, tokenizer = models.load(params.compute.model_copy(update={"dtype": dtype}))
    loaded = saving.load(model, FOLDER / adapter)
    loaded.eval()
    return params, model, tokenizer, loaded


def _stock(adapter: str) -> tuple[Any, Any]:
    """The base with every task's exported LoRA, in stock PEFT."""
    from peft import PeftModel

    _, model, tokenizer, loaded = _load("float32", adapter)
    folder = FOLDER / adapter / "tasks"
    model = loaded.unload()
    first, *others = loaded.config.tasks
    stock = PeftModel.from_pretrained(model, str(folder / first), adapter_name=first)
    for task in others:
        stock.load_adapter(str(folder / task), adapter_name=task)
    return stock.eval(), tokenizer


def _answer(model: Any, prompt: list[int], task: str, new: int) -> list[int]:
    """Tokens of the peer's greedy answer, its end token left out."""
    import torch

    model.set_adapter(task)
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        said = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new
        )[0, len(prompt) :].tolist()
    end = model.generation_config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    return [token for token in said if token not in ends]
