"""Least squares on a tree, against the same solved as a matrix, and the ranks it serves."""

import numpy as np
import pytest

from fedspeech.queries.tree import Tree


def design(tree):
    """Which leaves each node counts, shape (nodes, leaves)."""
    found = np.zeros((tree.nodes, tree.leaves))
    leaves = np.arange(tree.leaves)
    for nodes in tree.nodes_of(leaves):
        found[nodes, leaves] = 1
    return found


TREES = [
    Tree(leaves=leaves, fanout=fanout) for leaves, fanout in ((2, 2), (7, 2), (16, 4), (23, 3))
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_two_passes_are_least_squares(tree):
    counts = np.random.default_rng(0).normal(size=tree.nodes)
    expected = np.linalg.lstsq(design(tree), counts)[0]
    np.testing.assert_allclose(tree.fitted(counts), expected, atol=1e-12)


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_exact_counts_are_kept(tree):
    leaves = np.random.default_rng(1).integers(0, 9, tree.leaves)
    np.testing.assert_allclose(tree.fitted(design(tree) @ leaves), leaves, atol=1e-12)
    assert np.all(design(tree).sum(axis=0) == tree.levels)


def test_fitting_lowers_the_noise_of_every_rank():
    tree = Tree(leaves=64, fanout=4)
    nodes = np.cumsum(np.eye(tree.nodes)[-64:], axis=0)  # prefixes of leaves alone
    alone = np.sum((nodes - 0.5 * nodes[-1]) ** 2, axis=1)
    assert np.all(tree.rank_variances(0.5) < alone)


def test_ranks_vary_as_the_matrix_says():
    tree, rng = TREES[2], np.random.default_rng(2)
    draws = np.cumsum(tree.fitted(rng.normal(size=(tree.nodes, 20_000))), axis=0)
    found = np.var(draws - 0.3 * draws[-1], axis=1)
    np.testing.assert_allclose(found, tree.rank_variances(0.3), rtol=0.05)  # 5 deviations


def test_a_tree_of_one_level_is_a_histogram():
    tree = Tree(leaves=8, fanout=8)
    assert (tree.levels, tree.nodes) == (1, 8)
    with pytest.raises(ValueError, match="fanout must be from 2"):
        Tree(leaves=8, fanout=9)
