"""The structural metrics of Section 6 and Appendix C.2: what a language model is made of, and what
its heads attend to.

L layers of H heads, both counted from 1 in tables, as in the paper's 1:2; d components of the
residual stream; N sequences of T tokens, bos = V - 1 first.
"""

import itertools

import torch

from devlib.devices import move, of, to_numpy
from devlib.errors import UserError
from devlib.essential import principal_path
from devlib.language.model import attention_rows
from devlib.means import mean_and_se, with_se
from devlib.rng import generator
from devlib.settings import LanguageMetrics, LanguageModel

AT_ONCE = 2**11  # tokens whose attention patterns exist at once: they then stay in the cache


# ---------------------------------------------------------------------------- positional embedding


def position_path(w_pos, components):
    """Principal components of the positional embedding (T, d) over positions (C.2.1): `scores`
    (T, C) of each position, which Lissajous curves show against one another, and the share of the
    variance that each component explains (C,)."""
    return principal_path(range(len(w_pos)), to_numpy(w_pos), components)


def positions(params, metrics: LanguageMetrics) -> list[dict]:
    """The rows of one checkpoint in the table of positions: `position` from 0 (bos), the norm of
    its embedding, and its scores pc_1, pc_2, ..."""
    w_pos = params["pos_embed.W_pos"].double()
    path = position_path(w_pos, metrics.components)
    return [{"position": position, "norm": norm,
             **{f"pc_{i}": score for i, score in enumerate(scores, 1)}}
            for position, norm, scores in
            zip(path.steps.tolist(), w_pos.norm(dim=1).tolist(), path.scores.tolist(),
                strict=True)]


def structure(params, metrics: LanguageMetrics) -> dict:
    """One row of the structure table: the share of W_pos's variance in each component, mean and
    standard deviation of the positions' norms, and the norm of all parameters (B.2)."""
    w_pos = params["pos_embed.W_pos"].double()
    norms = w_pos.norm(dim=1)
    shares = position_path(w_pos, metrics.components).explained.tolist()
    return {f"position_pc_{i}": share for i, share in enumerate(shares, 1)} | {
        "position_norm": float(norms.mean()), "position_norm_sd": float(norms.std()),
        "weight_norm": sum(float(p.double().square().sum()) for p in params.values()) ** 0.5}


# -------------------------------------------------------------------------------------- composition


def composition_scores(params, earlier, later) -> dict:
    """Q-, K- and V-composition of every head of layer `earlier` (from 0) with every head of layer
    `later`: "q", "k", "v" -> (H, H), as earlier and later head.

    It is (17), ||M W_OV||_F / (||M||_F ||W_OV||_F), transposed, because the code's vectors are
    rows: the earlier head writes x W_V W_O; the later one reads that into its queries by
    W_Q W_K^T, its keys by W_K W_Q^T and its values by W_V W_O.
    """
    def weight(layer, letter):
        return params[f"blocks.{layer}.attn.W_{letter}"].double()

    written = weight(earlier, "V") @ weight(earlier, "O")  # (H, d, d)
    query_key = weight(later, "Q") @ weight(later, "K").mT
    reads = {"q": query_key, "k": query_key.mT, "v": weight(later, "V") @ weight(later, "O")}

    def norm(matrices):
        return matrices.norm(dim=(-2, -1))

    return {kind: norm(written[:, None] @ read) / (norm(written)[:, None] * norm(read))
            for kind, read in reads.items()}


def composition(params, model: LanguageModel) -> list[dict]:
    """The rows of one checkpoint in the table of composition, one a pair of heads: its layers and
    heads, q, k and v. One layer has none."""
    rows = []
    for earlier, later in itertools.combinations(range(model.layers), 2):
        scores = composition_scores(params, earlier, later)
        rows += [{"earlier_layer": earlier + 1, "earlier_head": i + 1,
                  "later_layer": later + 1, "later_head": j + 1,
                  **{kind: float(values[i, j]) for kind, values in scores.items()}}
                 for i in range(model.heads) for j in range(model.heads)]
    return rows


# -------------------------------------------------------------------------------------------- heads


def heads(params, model: LanguageModel, metrics: LanguageMetrics, seed) -> list[dict]:
    """The rows of one checkpoint in the table of heads: layer, head, `previous` and `prefix`, its
    previous-token and prefix-matching score (C.2.3, C.2.4), with standard errors over sequences.
    The same seed gives every checkpoint the same sequences. They are no longer than the context."""
    tokens, lengths = move(previous_token_sequences(
        generator(seed, "previous token"), metrics.previous_sequences,
        min(metrics.previous_shortest, model.context),
        min(metrics.previous_longest, model.context), model.vocabulary), of(params))
    previous = attention_between(params, tokens, lengths - 1, lengths - 2, model)
    tokens, first, second = move(prefix_sequences(
        generator(seed, "prefix matching"), metrics.prefix_sequences,
        min(metrics.prefix_length, model.context), model.vocabulary), of(params))
    prefix = attention_between(params, tokens, second, first + 1, model)
    return [{"layer": layer + 1, "head": head + 1,
             **with_se("previous", mean_and_se(previous[layer, head])),
             **with_se("prefix", mean_and_se(prefix[layer, head]))}
            for layer in range(model.layers) for head in range(model.heads)]


def attention_between(params, tokens, queries, keys, model: LanguageModel):
    """Every head's attention from token queries[i] to token keys[i] of sequence i: tokens (N, T),
    queries and keys (N,) counted from 0 -> (L, H, N), float64. What follows the last of some
    sequences' queries is not computed, so sequences are best in the order of their queries."""
    at_once, parts = max(1, AT_ONCE // tokens.shape[1]), []
    for some, query, key in zip(*(part.split(at_once) for part in (tokens, queries, keys)),
                                strict=True):
        rows = attention_rows(params, some[:, :int(query.max()) + 1], query, model)
        parts.append(rows[:, :, torch.arange(len(some)), key])
    return torch.cat(parts, -1).double()


def previous_token_sequences(gen, count, shortest, longest, vocabulary):
    """Sequences for the previous-token score (C.2.3): bos, then tokens uniform over all others.
    Tokens (count, longest) and lengths (count,), uniform from shortest to longest, in order; what
    lies beyond a sequence's length is to be ignored. Raises UserError for sequences too short."""
    if not 2 <= shortest <= longest:
        raise UserError(f"sequences of {shortest} to {longest} tokens have no last and previous "
                        "token; the shortest must have 2 or more")
    lengths = torch.randint(shortest, longest + 1, (count,), generator=gen).sort().values
    tokens = torch.randint(vocabulary - 1, (count, longest), generator=gen)
    tokens[:, 0] = vocabulary - 1
    return tokens, lengths


def prefix_sequences(gen, count, length, vocabulary):
    """Sequences for the prefix-matching score (C.2.4): bos, then A B in the first half and A in the
    second, among tokens uniform over all but bos, A and B. Tokens (count, length) and the indices
    (count,) of the first and the second A. The second half's first token may be B, but not A (as
    in the authors' code). Raises UserError for sequences or vocabularies too small."""
    if length < 6 or vocabulary < 4:
        raise UserError(f"prefix matching needs 6 tokens of a vocabulary of 4, not {length} of "
                        f"{vocabulary}")
    half = length // 2

    def draw(low, high, *shape):
        return torch.randint(low, high, (count, *shape), generator=gen)

    first, second = draw(1, half), draw(half + 1, length)
    a, b = draw(0, vocabulary - 1), draw(0, vocabulary - 2)
    b += b >= a  # uniform over all but bos and A
    tokens = draw(0, vocabulary - 3, length)
    for taken in torch.stack([a, b]).sort(0).values:  # uniform over all but these
        tokens += tokens >= taken[:, None]
    rows = torch.arange(count)
    tokens[rows, first], tokens[rows, first + 1], tokens[rows, second] = a, b, a
    tokens[:, 0] = vocabulary - 1
    return tokens, first, second
