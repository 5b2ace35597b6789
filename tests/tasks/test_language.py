"""Language models: low-rank weights and prompts of each task, tasks made of text, learning in context."""

import math

import numpy as np
import peft
import pytest
import torch
from torch.func import functional_call

from innerloop.algorithms.fomaml import FOMAML
from innerloop.algorithms.in_context import InContext
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.reptile import Reptile
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.models.hf import HuggingFace
from innerloop.models.transformer import Transformer
from innerloop.objective import CLASSIFICATION, LANGUAGE, perplexity, token_cross_entropy
from innerloop.runs.build import build_run
from innerloop.runs.experiment import load_run, run
from innerloop.runs.export import export_adapter
from innerloop.runs.rescore import rescore
from innerloop.tasks.language.grammars import START, STOP, VOCABULARY, Grammars, Language
from innerloop.tasks.language.text_folder import TextFolder
from innerloop.tasks.tokenizers import byte_pairs
from tests.command_line import call
from tests.conftest import TINY, compose_run
from tests.tiny_data import texts, write_csv, write_tree

LENGTH, TOKENS = 6, 11
GPT2 = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT2 |= {"bos_token_id": None, "eos_token_id": None}
LLAMA = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA |= {"bos_token_id": None, "eos_token_id": None}
SMALL = ["task=grammars", "task.length=12", "model.width=16", "model.heads=2", "model.layers=1", *TINY]


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def transformer(lora_rank=0, prompt=0, base=None):
    return Transformer((LENGTH,), TOKENS, TOKENS, width=8, heads=2, layers=2, base=base, lora_rank=lora_rank, prompt=prompt)


def llama(lora_rank=0, prompt=0, head="causal"):
    return HuggingFace((LENGTH,), TOKENS, TOKENS, None, LLAMA | {"vocab_size": TOKENS}, head, lora_rank, None, prompt)


def gpt2(lora_rank=0, prompt=0):
    return HuggingFace((LENGTH,), TOKENS, TOKENS, None, GPT2 | {"vocab_size": TOKENS}, "causal", lora_rank, None, prompt)


def shaken(model):
    """With no weights of zero, behind which gradients would hide."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    return model


def text_episodes(tasks=3, windows=2):
    tokens = torch.randint(TOKENS, (2, tasks, windows, LENGTH + 1))
    return Episode(*(Examples(part[..., :-1], part[..., 1:]) for part in tokens))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("build", [transformer, gpt2, llama])
@pytest.mark.parametrize(("weights", "pattern"), [({"lora_rank": 2}, "*.lora_*"), ({"prompt": 2}, "*prompt*"), ({}, "*"), ({}, "some")])
@pytest.mark.parametrize("algo", ["maml", "fomaml", "reptile"])
def test_each_task_has_its_own_small_weights(build, weights, pattern, algo):
    """All tasks at once is the loop to 1e-9, second derivatives and all; and the base takes no gradient."""
    pattern = {transformer: ["*.bias", "*norm*"], gpt2: "*.bias", llama: "*norm*"}[build] if pattern == "some" else pattern
    kinds = {
        "maml": lambda model, engine: MAML(model, LANGUAGE, engine, 0.5, 2, first_order=False, adapted=pattern, meta_learned=pattern),
        "fomaml": lambda model, engine: FOMAML(model, LANGUAGE, engine, 0.5, 2, adapted=pattern, meta_learned=pattern),
        "reptile": lambda model, engine: Reptile(model, LANGUAGE, engine, 0.5, 2, "sgd", None, None, adapted=pattern),
    }
    model, episodes, found = shaken(build(**weights)), text_episodes(), {}
    for engine in (engines.vmap, engines.loop):
        algorithm = kinds[algo](model, engine)
        losses, predictions = algorithm(episodes)
        assert predictions.shape == (3, 2, LENGTH, TOKENS)
        found[engine] = [losses, predictions, *torch.autograd.grad(losses.sum(), algorithm.trained())]
    for ours, theirs in zip(found[engines.vmap], found[engines.loop], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 if build is llama else 1e-9, rtol=0)  # which takes norms in float32 always
    assert max(gradient.abs().max() for gradient in found[engines.vmap][2:]) > 1e-4
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert names == set(algorithm.slow_weights()) and (not weights or all("lora_" in n or "prompt" in n for n in names))


@pytest.mark.usefixtures("float64")
def test_lora_gradient_by_hand():
    """Of MAML, by autograd alone, task by task."""
    model, (support, query) = shaken(transformer(lora_rank=2)), text_episodes()
    algorithm = MAML(model, LANGUAGE, engines.vmap, 0.5, 2, first_order=False, adapted="*.lora_*", meta_learned="*.lora_*")
    algorithm(Episode(support, query))[0].sum().backward()
    slow = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
    total = 0
    for task in range(3):
        fast = dict(slow)
        for _ in range(2):
            loss = torch.nn.functional.cross_entropy(
                functional_call(model, fast, (support.x[task],)).flatten(0, 1), support.y[task].flatten()
            )
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {name: weight - 0.5 * gradient for (name, weight), gradient in zip(fast.items(), gradients, strict=True)}
        total = total + torch.nn.functional.cross_entropy(
            functional_call(model, fast, (query.x[task],)).flatten(0, 1), query.y[task].flatten()
        )
    for (name, weight), expected in zip(slow.items(), torch.autograd.grad(total, list(slow.values())), strict=True):
        torch.testing.assert_close(weight.grad, expected, atol=1e-9, rtol=0, msg=name)


@pytest.mark.parametrize("build", [transformer, llama])
@pytest.mark.parametrize("weights", [{}, {"lora_rank": 2}, {"prompt": 3}])
def test_no_token_sees_what_comes_after_it(build, weights):
    model, x = shaken(build(**weights)).eval(), torch.randint(TOKENS, (2, LENGTH))
    other = x.clone()
    other[:, 3] = (x[:, 3] + 1) % TOKENS
    before, after = model(x), model(other)
    torch.testing.assert_close(before[:, :3], after[:, :3], atol=1e-6, rtol=0)
    assert (before[:, 3:] - after[:, 3:]).abs().amax((0, 2)).min() > 1e-4


def test_a_classifier_of_sequences():
    model = llama(head="classifier", lora_rank=2)
    assert model(torch.randint(TOKENS, (5, LENGTH))).shape == (5, TOKENS)
    algorithm = MAML(model, CLASSIFICATION, engines.vmap, 0.1, 1, first_order=False, adapted=["*lora_*", "*score*"], meta_learned="*lora_*")
    x, y = torch.randint(TOKENS, (2, 5, LENGTH)), torch.randint(TOKENS, (2, 5))
    assert algorithm(Episode(Examples(x, y), Examples(x, y)))[1].shape == (2, 5, TOKENS)


def test_a_language_model_tells_classes_of_texts_apart(tmp_path):
    """Low-rank weights and a head for each task, on a frozen model."""
    path = write_csv(tmp_path / "texts.csv", texts())
    model = ["model=hf", "model.head=classifier", "model.lora_rank=2", "model.config.hidden_size=16", "model.config.intermediate_size=16"]
    patterns = ["algo.adapted=[*lora_*,*score.modules_to_save*]", "algo.meta_learned=[*lora_*,*score.modules_to_save*]"]
    cfg = compose_run("task=text_csv", f"task.path={path}", "task.ways=3", "task.queries=2", *model, *patterns, *TINY)
    results = run(cfg, tmp_path / "run")
    assert results["metric"] == "accuracy" and 0 <= results["value"] <= 1


def test_a_support_set_stands_before_each_query():
    """As one sequence through the model; and another support set is another answer."""
    model, (support, query) = shaken(transformer()), text_episodes()
    algorithm = InContext(model, LANGUAGE, engines.vmap)
    predictions = algorithm.predict(algorithm.adapt(support), query.x)
    whole = torch.cat([support.x[1].flatten(), query.x[1, 0]])
    torch.testing.assert_close(predictions[1, 0], model(whole[None])[0, -LENGTH:], atol=1e-5, rtol=0)
    assert not torch.allclose(algorithm.predict(algorithm.adapt(query), query.x), predictions, atol=1e-3)
    with pytest.raises(InputError, match="algo=in_context reads its examples as text"):
        InContext(model, CLASSIFICATION, engines.vmap)


def test_perplexity_is_the_exponential_of_the_mean_loss():
    predictions, y = torch.randn(2, 3, 4, TOKENS), torch.randint(TOKENS, (2, 3, 4))
    by_hand = [-predictions[t].log_softmax(-1).gather(-1, y[t][..., None]).mean() for t in range(2)]
    assert token_cross_entropy(predictions, y).tolist() == pytest.approx([loss.item() for loss in by_hand], rel=1e-5)
    assert perplexity(torch.zeros(1, 3, 4, TOKENS), y[:1]).item() == pytest.approx(TOKENS, rel=1e-5)


def test_languages_have_a_grammar_of_their_own():
    """A noun has one determiner in a language, and may have another elsewhere; adverbs are on one side of the verb."""
    determiners = []
    for seed in range(4):
        language = Language(np.random.default_rng(seed))
        sentences = [language.clause() for _ in range(300)]
        assert all(0 < token < VOCABULARY and token not in (START, STOP) for sentence in sentences for token in sentence)
        adverb_first = {b >= 31 for s in sentences for a, b in zip(s, s[1:], strict=False) if a >= 59 and 31 <= b < 47}
        verb_first = {True for s in sentences for a, b in zip(s, s[1:], strict=False) if 31 <= a < 47 and b >= 59}
        assert bool(adverb_first) != bool(verb_first) and bool(adverb_first) == bool(language.first["adverb"])
        determiners.append(tuple(language.gender))
    assert len(set(determiners)) == 4
    tasks = Grammars(12, 2, 3)
    episode, again = (tasks.distribution("test").sample(np.random.default_rng(5)) for _ in range(2))
    assert episode.support.x.shape == (2, 12) and episode.query.y.shape == (3, 12) and (episode.support.x[:, 0] == START).all()
    assert torch.equal(episode.query.x[:, 1:], episode.query.y[:, :-1]) and torch.equal(episode.query.x, again.query.x)


def authors(characters=400, count=10):
    return {f"author{i}/{name}.txt": bytes([65 + i]) * (characters // 2) for i in range(count) for name in "ab"}


def folder_tasks(root, split=None, tokenizer=None, vocabulary=256, length=9):
    return TextFolder(str(root), split, 0, tokenizer, vocabulary, length, 2, 3)


def test_a_folder_is_a_task_and_windows_do_not_overlap(tmp_path):
    hidden = {"author0/.DS_Store": b"?" * 100, "author0/.git/objects": b"?" * 100}
    tasks = folder_tasks(write_tree(tmp_path / "letters", authors() | hidden))
    assert len(tasks.tokens["author0"]) == 401
    assert {part: len(names) for part, names in tasks.parts.items()} == {"train": 6, "val": 2, "test": 2}
    assert folder_tasks(tmp_path / "letters").parts == tasks.parts  # drawn once
    episode = tasks.distribution("train").sample(np.random.default_rng(0))
    assert episode.support.x.shape == (2, 9) and len(episode.query.x.unique()) <= 2  # one author's letter, and the line between two files
    sampler = folder_tasks(write_tree(tmp_path / "one", {f"text{i}": bytes(range(250)) for i in range(5)})).distribution("test")
    for seed in range(20):
        windows = torch.cat([part for pair in sampler.sample(np.random.default_rng(seed)) for part in pair[:1]])
        assert len(windows.unique()) == windows.numel()  # every byte of this text is there once


def test_no_piece_of_a_word_comes_from_a_text_to_be_tested_on(tmp_path):
    """What val and test repeat a hundred times changes no token of training's texts, nor the pieces that there are."""
    files = {f"{i}.txt": b"walking talking waling " * 30 for i in range(5)}
    split = write_csv(
        tmp_path / "s.csv", [("class", "split"), *zip(sorted(files), ("train", "train", "train", "val", "test"), strict=True)]
    )
    plain = folder_tasks(write_tree(tmp_path / "plain", files), split=str(split), vocabulary=280)
    files |= {"3.txt": b"zyzzyvazyzzyva " * 300, "4.txt": b"qoph qoph qophs " * 300}
    other = folder_tasks(write_tree(tmp_path / "other", files), split=str(split), vocabulary=280)
    np.testing.assert_array_equal(plain.tokens["0.txt"], other.tokens["0.txt"])
    assert len(other.tokens["4.txt"]) > 0.9 * len(files["4.txt"])  # spelt out in bytes


def test_pieces_of_words_are_found_in_the_training_texts(tmp_path):
    files = {f"{name}.txt": f"{name} wrote this and wrote that again ".encode() * 30 for name in ("anna", "berta", "clara", "dora", "elsa")}
    split = write_csv(
        tmp_path / "split.csv", [("class", "split"), *zip(sorted(files), ("train", "train", "train", "val", "test"), strict=True)]
    )
    tasks = folder_tasks(write_tree(tmp_path / "texts", files), split=str(split), vocabulary=300)
    assert tasks.outputs == 300 and all(tokens.max() < 300 for tokens in tasks.tokens.values())
    assert len(tasks.tokens["anna.txt"]) < len(files["anna.txt"]) / 3
    tokenizer = byte_pairs(["what stands in a file"] * 3, 270)
    tokenizer.enable_truncation(10)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tasks = folder_tasks(tmp_path / "texts", split=str(split), tokenizer=str(tmp_path))
    assert tasks.outputs == 270 and min(map(len, tasks.tokens.values())) > 100


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {}, "is empty; it must have a folder or a file for each task"),
        (authors() | {"short/a.txt": b"so short"}, {}, "short has 8 tokens and an episode takes .* = 50; lower task.length"),
        ({f"{i}.txt": b"gr\xfcn" * 100 for i in range(5)}, {"vocabulary": 300}, "0.txt is not UTF-8 .* take bytes, task.vocabulary=256"),
        (authors(), {"vocabulary": 10}, "task.vocabulary must be a whole number >= 256, got 10"),
        (authors(), {"tokenizer": "nowhere"}, "task.tokenizer=nowhere cannot be read .* name a tokenizer.json"),
    ],
)
def test_bad_folders(files, changes, message, tmp_path):
    (tmp_path / "texts").mkdir()
    with pytest.raises(InputError, match=message) as refused:
        folder_tasks(write_tree(tmp_path / "texts", files), **changes)
    assert "\n" not in str(refused.value)


def test_a_run_begins_with_the_weights_of_another_and_keeps_only_its_own(tmp_path):
    """Joint training of all weights, then low-rank ones beside them."""
    base = run(compose_run("algo=joint", *SMALL, "target=1e9"), tmp_path / "base")
    assert base["time_to_target"] | {"ms": 0} == {"target": 1e9, "steps": 0, "examples": 4, "tokens": 48, "ms": 0}
    small = ["algo=fomaml", "algo.adapted=*.lora_*", "algo.meta_learned=*.lora_*", f"model.base={tmp_path / 'base'}", "model.lora_rank=2"]
    results = run(compose_run(*SMALL, *small), tmp_path / "small")
    assert base["metric"] == "perplexity" and math.isfinite(results["value"])
    state = torch.load(tmp_path / "small" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert state and all("lora_" in name for name in state)
    model = load_run(tmp_path / "small").learner.algorithm.model
    trained = torch.load(tmp_path / "base" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(model.body.blocks[0].up.base_layer.weight, trained["algorithm.model.body.blocks.0.up.weight"])
    with pytest.raises(InputError, match="model.base has a model of another shape"):
        run(compose_run(*SMALL, *small, "model.width=8"), tmp_path / "other")
    with pytest.raises(InputError, match="has no body.blocks.1.attention.mix.weight; its model must be this one"):
        run(compose_run(*SMALL, *small, "model.layers=2"), tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, "model.path=nowhere has no config.json; name the folder of a model"),
        ({"config": {"model_type": "parrot"}}, "cannot be built: Unrecognized model identifier: parrot"),
        ({"config": None}, "model=hf needs model.path, a local folder, or model.config with its model_type"),
        ({"lora_rank": 2, "prompt": 2}, "are two ways to add weights"),
        ({"lora_rank": 2, "lora_targets": ["nothing"]}, "model.lora_targets=.'nothing'. do not fit"),
        ({"config": LLAMA | {"vocab_size": 5}}, "the model has 5 tokens and the task 11; set task.tokenizer to the model's"),
        ({"input_shape": (1, 2, 3), "vocabulary": None}, "model=hf takes tokens, this task has inputs .1, 2, 3.; use another model"),
        ({"head": "classifier", "prompt": 2}, "model.prompt does not go with model.head=classifier; use model.lora_rank"),
    ],
)
def test_bad_models(changes, message):
    arguments = {
        "input_shape": (LENGTH,),
        "outputs": TOKENS,
        "vocabulary": TOKENS,
        "path": None,
        "config": LLAMA,
        "head": "causal",
        "lora_rank": 0,
    }
    with pytest.raises(InputError, match=message) as refused:
        HuggingFace(**arguments | {"lora_targets": None, "prompt": 0} | changes)
    assert "\n" not in str(refused.value)


def test_a_saved_model_comes_from_its_folder(tmp_path):
    """In the precision of a run, whatever its file has; and to be trained, as a new one."""
    model = llama()
    model.model.to(torch.bfloat16).save_pretrained(tmp_path)
    again = HuggingFace((LENGTH,), TOKENS, TOKENS, str(tmp_path), None, "causal", 0, None, 0)
    assert again.training and all(module.training for module in again.modules())
    x = torch.randint(TOKENS, (2, LENGTH))
    assert again(x).dtype is torch.float32
    torch.testing.assert_close(again.eval()(x), model.float().eval()(x))


def test_what_peft_would_not_keep_is_not_exported(tmp_path):
    """Weights of the base that were learned too."""
    model = ["model=hf", "model.config={model_type:llama,hidden_size:16,intermediate_size:16,num_hidden_layers:1,num_attention_heads:2}"]
    run(compose_run("task=grammars", "task.length=12", *model, "model.lora_rank=2", *TINY), tmp_path / "run")
    with pytest.raises(InputError, match="run learned model.*weight too, which peft does not keep beside the base"):
        export_adapter(tmp_path / "run", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_tied_weights_that_are_frozen_are_not_saved(tmp_path):
    """GPT-2's last layer is its first."""
    model = ["model=hf", "model.config.model_type=gpt2", "model.config.hidden_size=8", "model.config.num_hidden_layers=1"]
    small = ["model.lora_rank=2", "model.lora_targets=[c_attn]", "algo.adapted=*lora_*", "algo.meta_learned=*lora_*"]
    run(compose_run("task=grammars", "task.length=12", *model, *small, *TINY), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert state and all("lora_" in name for name in state)
    assert load_run(tmp_path / "run").learner.algorithm.model.model is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=sinusoid", "model=transformer"], "model=transformer predicts tokens, which is not what this task asks for"),
        (
            ["model=hf", "model.head=classifier"],
            r"gives .2, 64. numbers for 2 examples, and this task asks for .2, 12, 64.; set model.head",
        ),
        (["model=hf", "model.config.model_type=qwen2"], "HuggingFace cannot take this task .*; change its settings, or use another model"),
        (
            ["model=hf", "+model.config.max_position_embeddings=8", "model.config.model_type=gpt_neo"],
            "cannot (take this task|be built)",
        ),
        (["model=hf", "model.config.model_type=bert", "engine=loop"], "sees the tokens that it is to predict; use a causal language model"),
        (["algo.adapted=[]", "model=transformer"], "algo.adapted must be a pattern of weights' names or a list of some, got ..;?"),
        (
            ["algo.meta_learned=null", "model=transformer"],
            "algo.meta_learned must be a pattern of weights' names or a list of some, got None",
        ),
    ],
)
def test_what_does_not_go_together_is_said_before_training(overrides, message):
    small = {"model=hf": ["model.config.hidden_size=16", "model.config.intermediate_size=16", "model.config.num_hidden_layers=1"]}
    more = [o for override in overrides for o in small.get(override, [])]
    with pytest.raises(InputError, match=message) as refused:
        length = [] if "task=sinusoid" in overrides else ["task=grammars", "task.length=12"]
        build_run(compose_run(*length, *more, *overrides))
    assert "\n" not in str(refused.value)


def test_a_model_keeps_to_its_tokens(tmp_path):
    """Others would be taken for them without an error."""
    path = write_csv(tmp_path / "texts.csv", texts())
    byte_pairs([text for text, _ in texts()[1:]], 300).save(str(tmp_path / "tokenizer.json"))
    from_csv = ["task=text_csv", f"task.path={path}", "task.ways=3", "task.queries=2", "model=hf", "model.head=classifier"]
    config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    HuggingFace((8,), 3, 300, None, config, "causal", 0, None, 0).model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="model.path=.* has tokens of its own; set task.tokenizer to that folder"):
        build_run(compose_run(*from_csv, f"model.path={tmp_path}"))
    data = build_run(compose_run(*from_csv, f"model.path={tmp_path}", f"task.tokenizer={tmp_path}")).data
    assert (
        data.tasks.vocabulary == 300
        and data.tasks.tokenizer.decode([t for t in data.tasks.tokens[0] if t]).split() == texts()[1][0].split()
    )
    base = ["task=grammars", "task.length=12", "model.width=16", "model.layers=1", "model.heads=2"]
    run(compose_run(*base, *TINY), tmp_path / "base")
    with pytest.raises(InputError, match="nowhere is not the output directory of a run: it has no config.yaml"):
        build_run(compose_run(*base, f"model.base={tmp_path / 'nowhere'}"))
    with pytest.raises(InputError, match="has model.heads=2, and here it is 1; make it equal"):
        build_run(compose_run(*base, "model.heads=1", f"model.base={tmp_path / 'base'}"))
    folder = write_tree(tmp_path / "letters", {name: content for name, content in authors().items()})
    with pytest.raises(InputError, match="model.base=.* has its tokens from task.vocabulary=None, and here it is 256; make it equal"):
        build_run(compose_run("task=text_folder", f"task.root={folder}", *base[1:], f"model.base={tmp_path / 'base'}"))


def test_a_run_is_scored_from_anywhere(tmp_path, monkeypatch):
    """Its base and its data are named as they were seen where it began."""
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "letters", authors())
    tasks = ["task=text_folder", "task.root=letters", "task.length=8", "model.width=16", "model.heads=2", "model.layers=1", *TINY]
    run(compose_run(*tasks), "base")
    run(compose_run(*tasks, "model.base=base", "model.lora_rank=2"), "small")
    monkeypatch.chdir("/")
    assert rescore(tmp_path / "small", ["task.shots=2"])[0]["shots"] == 2


@pytest.mark.parametrize("small", ["model.lora_rank=2", pytest.param("model.prompt=3", marks=pytest.mark.slow)])
def test_peft_loads_what_is_exported(small, tmp_path):
    """Into the base model, without a line of ours."""
    pattern = "*lora_*" if "lora" in small else "*prompt*"
    model = ["model=hf", "model.config={model_type:llama,hidden_size:16,intermediate_size:16,num_hidden_layers:1,num_attention_heads:2}"]
    choices = ["task=grammars", "task.length=12", *model, small, f"algo.adapted={pattern}", f"algo.meta_learned={pattern}", *TINY]
    run(compose_run(*choices), tmp_path / "run")
    call("-m", "innerloop", "export", str(tmp_path / "run"), str(tmp_path / "adapter"))
    ours = load_run(tmp_path / "run").learner.algorithm.model.eval()
    other = load_run(tmp_path / "run").learner.algorithm.model.model
    base = other.unload() if "lora" in small else other.get_base_model()
    if hasattr(base, "peft_config"):
        del base.peft_config
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    x = torch.randint(VOCABULARY, (2, 12))
    torch.testing.assert_close(theirs(input_ids=x, use_cache=False).logits[:, -12:], ours(x))
    assert sorted(path.name for path in (tmp_path / "adapter").glob("adapter_*")) == ["adapter_config.json", "adapter_model.safetensors"]
    with pytest.raises(InputError, match="is there already; name an empty folder"):
        export_adapter(tmp_path / "run", tmp_path / "adapter")


def test_without_the_libraries_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    for build in (transformer, llama):
        with pytest.raises(InputError, match="pip install 'innerloop.lm.'"):
            build(lora_rank=2)
