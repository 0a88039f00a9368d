"""Weights of a task."""

import torch

from pipeline.moelora.gate import Gate


def test_weights_are_the_softmax_of_embedding_times_projection() -> None:
    gate = Gate(("a", "b", "c"), 8, seed=17)
    weights = gate(torch.eye(3))
    assert weights.shape == (3, 8)
    assert torch.allclose(weights.sum(-1), torch.ones(3))
    wanted = torch.softmax((gate.embedding[1][None] * gate.projection).sum(-1), 0)
    assert torch.allclose(weights[1], wanted, atol=1e-6)


def test_a_fresh_gate_is_not_uniform() -> None:
    """As in the paper's code: logit deviation about 0.6, weights 0.02 to 0.37."""
    gate = Gate(tuple(f"task-{i}" for i in range(200)), 8, seed=17)
    logits = gate.embedding @ gate.projection.T
    assert 0.45 < logits.std() < 0.7
    assert 0.8 < gate.embedding.std() < 1.2


def test_a_new_task_moves_no_other() -> None:
    before = Gate(("rqe", "mts-section"), 8, seed=17)
    after = Gate(("a-new-task", "mts-section", "rqe"), 8, seed=17)
    assert torch.equal(before.embedding[0], after.embedding[2])
    assert torch.equal(before.embedding[1], after.embedding[1])
    assert torch.equal(before.projection, after.projection)


def test_a_gate_for_each_layer_is_one_formula_a_layer() -> None:
    gate = Gate(("a", "b"), 4, seed=17, layers=("x", "y", "z"))
    weights = gate(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    assert weights.shape == (3, 2, 4)
    for layer in range(3):
        embedding, projection = gate.embedding[layer], gate.projection[layer]
        assert torch.allclose(weights[layer, 0], torch.softmax(projection @ embedding[1], 0), atol=1e-6)
        mean = embedding.mean(0)
        assert torch.allclose(weights[layer, 1], torch.softmax(projection @ mean, 0), atol=1e-6)


def test_a_new_task_or_layer_moves_no_other() -> None:
    before = Gate(("rqe", "mts-section"), 8, seed=17, layers=("x", "z"))
    after = Gate(("a-new-task", "mts-section", "rqe"), 8, seed=17, layers=("w", "x", "z"))
    assert torch.equal(before.embedding[:, 0], after.embedding[1:, 2])
    assert torch.equal(before.projection, after.projection[1:])
    assert not torch.equal(before.projection[0], before.projection[1])


def test_another_seed_gives_other_values() -> None:
    assert not torch.equal(Gate(("a",), 4, seed=1).embedding, Gate(("a",), 4, seed=2).embedding)


def test_a_sample_of_several_tasks_is_gated_by_their_mean_embedding() -> None:
    gate = Gate(("a", "b"), 4, seed=17)
    mixed = gate(torch.tensor([[0.5, 0.5]]))[0]
    wanted = torch.softmax(gate.embedding.mean(0) @ gate.projection.T, -1)
    assert torch.allclose(mixed, wanted)
