"""The behavioural metrics of Section 6 and Appendix C: what a language model predicts.

Shapes: N contexts of T tokens below V, the first of them bos = V - 1. Position p is that of the
token with p tokens before it, bos at 0; losses are (N, T - 1), position p in column p - 1, in nats.
"""

from dataclasses import dataclass, fields

import torch
from torch.nn import functional as F

from devlib.devices import move
from devlib.errors import UserError
from devlib.language.model import losses_and_stream, stream_at, token_losses
from devlib.means import mean_and_se, with_se
from devlib.settings import LanguageMetrics, LanguageModel

AT_ONCE = 32  # contexts whose logits at all their places exist at once


@dataclass(frozen=True, eq=False)
class Probes:
    """What the model is asked at every checkpoint alike."""

    contexts: torch.Tensor  # (N, T), of the validation split
    places: torch.Tensor  # (M, P): positions in the first M contexts, for the bigram score
    q: torch.Tensor  # (V, V): q(t | s) of (15)
    entropies: torch.Tensor  # (V,): entropy of q(. | s), nats
    ngrams: dict[int, torch.Tensor]  # n -> (count, n)

    def on(self, where) -> "Probes":
        """The same on a device."""
        return Probes(**move({f.name: getattr(self, f.name) for f in fields(self)}, where))


def behaviour(params, model: LanguageModel, metrics: LanguageMetrics, probes: Probes) -> dict:
    """One row of the behaviour table. All but the octaves with a standard error over contexts, as
    if these were independent (`loss_se`):

    - `loss`, and its mean over octaves of positions, such as `loss_5_8`;
    - `icl`: the ICL score;
    - `loss_at_10`: loss at position 10; `ablation`, `ablation_at_10`: how much higher the loss is
      with positions ablated, on average and at position 10;
    - `bigram`, `bigram_floor` and `bigram_excess`, the one less the other;
    - `ngram_2`, and `ngram_2_slip` as the authors' code has it.
    """
    contexts = probes.contexts[:max(metrics.contexts, metrics.bigram_contexts)]
    losses, stream = losses_and_stream(params, contexts, model, probes.places)
    losses = losses[:metrics.contexts].double()
    windows = icl_windows(metrics, probes.contexts.shape[1])
    return (with_se("loss", mean_and_se(losses.mean(1))) | octave_losses(losses)
            | with_se("icl", icl_score(losses, *windows))
            | _ablation(params, model, metrics, probes, losses)
            | _bigrams(params, probes, stream) | _ngrams(params, model, metrics, probes))


# ------------------------------------------------------------------------------ loss by position


def octave_losses(losses) -> dict:
    """Mean loss over positions 1, 2, 3-4, 5-8, ..., each octave up to a power of two or the
    context's end: {"loss_5_8": ...}."""
    positions, row, first = losses.shape[1], {}, 1
    while first <= positions:
        last = min(2 ** (first - 1).bit_length(), positions)
        row[f"loss_{first}_{last}"] = float(losses[:, first - 1:last].mean())
        first = last + 1
    return row


def icl_windows(metrics: LanguageMetrics, context):
    """The early and the late tokens of the ICL score, (first, last) each, bos being token 1: those
    of the settings, scaled down, where the last of them lies beyond the context, such that it is
    the context's last."""
    scale = min(1, context / metrics.icl_late[1])
    return tuple(tuple(max(2, round(scale * token)) for token in window)
                 for window in (metrics.icl_early, metrics.icl_late))


def icl_score(losses, early, late):
    """Loss on the late tokens minus loss on the early ones (C.1.3): (score, se). Windows are
    (first, last) with bos as token 1; the paper's are one token each, 50 and 500, whose noise
    needs 100,000 contexts. Below zero: context helps. Raises UserError for tokens outside."""
    for first, last in (early, late):
        if not 2 <= first <= last <= losses.shape[1] + 1:
            raise UserError(f"tokens {first} to {last} have no loss in contexts of "
                            f"{losses.shape[1] + 1} tokens; choose from 2 to that")
    before, after = (losses[:, first - 2:last - 1].mean(1) for first, last in (early, late))
    return mean_and_se(after - before)


# --------------------------------------------------------------------------- positions ablated


def ablate_positions(params) -> dict:
    """The parameters with W_pos zeroed (6.2, C.2.1)."""
    return params | {"pos_embed.W_pos": torch.zeros_like(params["pos_embed.W_pos"])}


def _ablation(params, model, metrics, probes, losses):
    contexts = probes.contexts[:min(metrics.contexts, metrics.ablation_contexts)]
    gaps = token_losses(ablate_positions(params), contexts, model) - losses[:len(contexts)]
    row = with_se("ablation", mean_and_se(gaps.mean(1)))
    for position in metrics.positions:
        if position <= losses.shape[1]:
            row |= with_se(f"loss_at_{position}", mean_and_se(losses[:, position - 1]))
            row |= with_se(f"ablation_at_{position}", mean_and_se(gaps[:, position - 1]))
    return row


# --------------------------------------------------------------------------- bigrams and n-grams


def random_places(gen, contexts, count, context):
    """`count` different positions in each context, uniform over all but bos's, (contexts, count).
    Raises UserError if there are not so many."""
    if not 1 <= count < context:
        raise UserError(f"a context of {context} tokens has 1 to {context - 1} positions to "
                        f"choose, not {count}")
    return 1 + torch.rand(contexts, context - 1, generator=gen).topk(count).indices


def bigram_scores(params, contexts, places, q, model: LanguageModel):
    """Cross entropy -sum_t q(t | s_k) log p(t | s_<=k) of the model's prediction after the token
    at each place k with the corpus's bigrams (15): contexts (M, T), places (M, P) -> (M, P).
    Their mean is the bigram score (16)."""
    return scores_of_stream(params, stream_at(params, contexts, model, places),
                            contexts.gather(1, places), q)


def scores_of_stream(params, stream, tokens, q):
    """The `bigram_scores` where the final stream (M, P, d) after the tokens (M, P) is known."""
    parts = []
    for some, seen in zip(tokens.split(AT_ONCE), stream.split(AT_ONCE), strict=True):
        logits = _logits(params, seen)
        expected = torch.einsum("bpv,bpv->bp", q[some].to(logits), logits)
        parts.append(logits.logsumexp(-1) - expected)  # as q sums to one
    return torch.cat(parts)


def log_probabilities(params, contexts, places, model: LanguageModel):
    """log p of every token after those at the places: contexts (M, T), places (M, P) ->
    (M, P, V)."""
    return _logits(params, stream_at(params, contexts, model, places)).log_softmax(-1)


@torch.no_grad()
def _logits(params, stream):
    """The logits (..., V) of a final stream (..., d), without gradients."""
    return stream @ params["unembed.W_U"] + params["unembed.b_U"]


def bigram_distribution(counts) -> tuple[torch.Tensor, torch.Tensor]:
    """q(t | s) of (15) from counts (V, V), float32 (V, V), and the entropy of each row in nats,
    float64 (V,): the least cross entropy that any prediction after s can have.

    The floor of a bigram score is the mean entropy of the rows of its tokens s_k. A token that
    nothing follows in the data gets the frequencies of all second tokens.
    """
    q = counts.double()
    totals = q.sum(1, keepdim=True)
    q = torch.where(totals > 0, q, q.sum(0))
    q /= q.sum(1, keepdim=True)
    return q.float(), torch.special.entr(q).sum(1)


def bigram_floors(contexts, places, entropies):
    """The least that each of the `bigram_scores` can be: the entropy of q(. | s_k), (M, P)."""
    return entropies[contexts.gather(1, places)]


def _bigrams(params, probes, stream):
    contexts = probes.contexts[:len(probes.places)]
    tokens = contexts.gather(1, probes.places)
    scores = scores_of_stream(params, stream, tokens, probes.q).double()
    floors = bigram_floors(contexts, probes.places, probes.entropies)
    return (with_se("bigram", mean_and_se(scores.mean(1)))
            | with_se("bigram_floor", mean_and_se(floors.mean(1)))
            | with_se("bigram_excess", mean_and_se((scores - floors).mean(1))))


def ngram_losses(params, ngrams, model: LanguageModel):
    """Loss on the last token of each n-gram after bos: (count, n) -> (count,)."""
    contexts = F.pad(ngrams, (1, 0), value=model.vocabulary - 1)
    return token_losses(params, contexts, model)[:, -1]


def ngram_score(losses, validation, n, *, slip=False):
    """Mean validation loss at position n over the mean of the `ngram_losses` (6.2, C.1.2):
    (score, se). Above one: common n-grams are known better than text in general.

    validation (N, n or more): losses of validation contexts, by position. The error is theirs: the
    n-grams are a fixed set. `slip` takes position n + 1, one too many, as the authors' code does.
    """
    loss = float(losses.mean())
    baseline, se = mean_and_se(validation[:, n if slip else n - 1])
    return baseline / loss, se / loss


def _ngrams(params, model, metrics, probes):
    start = probes.contexts[:metrics.ngram_contexts, :max(probes.ngrams) + 2]
    validation = token_losses(params, start, model).double()
    row = {}
    for n, ngrams in probes.ngrams.items():
        losses = ngram_losses(params, ngrams, model)
        row |= with_se(f"ngram_{n}", ngram_score(losses, validation, n))
        row |= with_se(f"ngram_{n}_slip", ngram_score(losses, validation, n, slip=True))
    return row


# -------------------------------------------------------------------------- changed predictions


def loss_changes(before, after, contexts, model: LanguageModel):
    """Loss on each token after a stage minus before it (C.1.4), (N, T - 1): `before` and `after`
    are parameters. Below zero: the token is predicted better."""
    return token_losses(after, contexts, model) - token_losses(before, contexts, model)


def most_changed(changes, count) -> list[dict]:
    """The `count` tokens whose loss changed most, either way, largest first: rows of context,
    position and change."""
    places = changes.abs().flatten().topk(count).indices.tolist()
    return [{"context": place // changes.shape[1], "position": place % changes.shape[1] + 1,
             "change": float(changes.flatten()[place])} for place in places]
