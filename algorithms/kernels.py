"""Compiled kernels of the policy on a CPU: masked categoricals, forward and backward, many rows at once.

Arrays of one factor are laid out (C, n), choices first: a loop over rows then runs along memory and becomes SIMD code,
which a loop over 4 to 20 choices does not. What is legal is one integer a row, bit c for choice c. The slow twins are
`algorithms.distribution` and `algorithms.losses`.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

MAX_CHOICES = 63  # bits of a mask
TILE = 256  # rows that are worked on at once: their choices stay in the L1 cache
AHEAD, LINE = 16, 16  # rows between asking for memory and reading it; numbers in a line of the cache
f32 = np.float32
LOWEST = f32(-1e30)
BELOW_ONE = f32(1 - 2**-24)

LOG2E, ROUND = f32(1.4426950408889634), f32(12582912.0)  # x + 1.5 * 2^23 rounds x to an integer, kept in its low bits
LN2_HIGH, LN2_LOW, LEAST = f32(0.693359375), f32(-2.12194440e-4), f32(-87.0)
E2, E3, E4 = f32(0.5), f32(1.6666665459e-1), f32(4.1665795894e-2)
E5, E6, E7 = f32(8.3334519073e-3), f32(1.3981999507e-3), f32(1.9875691500e-4)
T_MOST = f32(9)
T1, T3, T5, T7 = (
    f32(4.89352455891786e-03),
    f32(6.37261928875436e-04),
    f32(1.48572235717979e-05),
    f32(5.12229709037114e-08),
)
T9, T11, T13 = f32(-8.60467152213735e-11), f32(2.00018790482477e-13), f32(-2.76076847742355e-16)
T0, T2, T4, T6 = (
    f32(4.89352518554385e-03),
    f32(2.26843463243900e-03),
    f32(1.18534705686654e-04),
    f32(1.19825839466702e-06),
)
ONE, ZERO = f32(1), f32(0)

compiled = njit(cache=True, nogil=True, error_model="numpy")  # no check of divisors: it would keep loops from SIMD
inlined = njit(inline="always", error_model="numpy")


@intrinsic
def _power_of_two(typing_context: Any, rounded: Any) -> Any:
    """Returns 2^k for rounded = ROUND + k: moves k into the exponent's bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(32)
        bits = builder.bitcast(arguments[0], integer)
        bits = builder.add(builder.shl(bits, ir.Constant(integer, 23)), ir.Constant(integer, 0x3F800000))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _prefetch(typing_context: Any, matrix: Any, row: Any, column: Any) -> Any:
    """Asks for the memory around matrix[row, column], which will be read soon."""

    def generate(context, builder, signature, arguments):
        kind = signature.args[0]
        array = make_array(kind)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, kind, array, list(arguments[1:]), wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], function)
        builder.call(fetch, [builder.bitcast(place, byte), word(0), word(3), word(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(matrix, row, column), generate


@inlined
def exp(x):
    """Returns e^x of a float32 <= 0 to a few units in the last place (Cephes' expf); e^-87 for anything lower."""
    x = max(x, LEAST)
    rounded = x * LOG2E + ROUND
    k = rounded - ROUND
    r = x - k * LN2_HIGH - k * LN2_LOW
    p = ((((E7 * r + E6) * r + E5) * r + E4) * r + E3) * r + E2
    return (p * r * r + r + ONE) * _power_of_two(rounded)  # type: ignore[call-arg]


@inlined
def tanh(x):
    """Returns tanh of a float32 to a few units in the last place (the rational function of Eigen)."""
    x = min(max(x, -T_MOST), T_MOST)
    y = x * x
    above = x * ((((((T13 * y + T11) * y + T9) * y + T7) * y + T5) * y + T3) * y + T1)
    return min(max(above / (((T6 * y + T4) * y + T2) * y + T0), -ONE), ONE)


@compiled
def transpose(x, out):
    """Writes x (n, H) into out (H, n), a few numbers of a column at a time, as many as loops of fixed length take."""
    n, n_columns = x.shape
    start = 0
    while n - start >= 32 and n > n_columns:  # rows that are far apart would share lines of the cache
        for j in range(n_columns):
            column = out[j, start : start + 32]
            for i in range(32):
                column[i] = x[start + i, j]
        start += 32
    while n - start >= 4:
        for j in range(n_columns):
            column = out[j, start : start + 4]
            for i in range(4):
                column[i] = x[start + i, j]
        start += 4
    for i in range(start, n):
        for j in range(n_columns):
            out[j, i] = x[i, j]


@compiled
def gather(source, rows, out):
    """Writes rows int64 (n,) of float32 (B, D) into out (n, D); each is asked for long before it is read."""
    n, n_columns = out.shape
    for i in range(n):
        coming = rows[min(i + AHEAD, n - 1)]
        for j in range(0, n_columns, LINE):
            _prefetch(source, coming, j)  # type: ignore[call-arg]
        row, copy = source[rows[i]], out[i]
        for j in range(n_columns):
            copy[j] = row[j]


@compiled
def pack(mask: np.ndarray) -> np.ndarray:
    """Returns int64 (n,), bit c set where mask[i, c], from bool (n, C); C <= 63."""
    n, n_choices = mask.shape
    bits = np.empty(n, np.int64)
    for i in range(n):
        word = np.int64(0)
        for c in range(n_choices):
            word |= np.int64(mask[i, c]) << c
        bits[i] = word
    return bits


@compiled
def pack_up_to(cap: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns int64 (n,), bit c set where values[c] <= cap[i]; `values` ascend."""
    bits = np.empty(cap.size, np.int64)
    for i in range(cap.size):
        word = np.int64(0)
        for c in range(values.size):
            word |= np.int64(values[c] <= cap[i]) << c
        bits[i] = word
    return bits


@compiled
def draw(
    logits: np.ndarray, bias: np.ndarray, bits: np.ndarray, uniform: np.ndarray, greedy: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses one legal choice a row, by inverse transform of a number from [0, 1), or the likeliest if `greedy`.

    Args:
        logits: float32 (C, >= n), to which bias (C,) is yet to be added; overwritten.
        bits: int64 (n,), not 0.  uniform: float32 (n,); not read if greedy.

    Returns:
        choice int64 (n,), and its log p float32 (n,).
    """
    n_choices, n = logits.shape[0], bits.size
    choice, log_prob, exponential = np.empty(n, np.int64), np.empty(n, f32), np.empty((n_choices, TILE), f32)
    total, best, level, taken = np.empty(TILE, f32), np.empty(TILE, f32), np.empty(TILE, f32), np.empty(TILE, np.int32)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        _softmax(logits, bias, bits[start : start + m], start, exponential, 0, total, best)
        if greedy:
            for i in range(m):
                best[i], taken[i] = LOWEST, 0
            for c in range(n_choices):
                z, number = logits[c, start : start + m], np.int32(c)
                for i in range(m):
                    higher = z[i] > best[i]
                    taken[i] = number if higher else taken[i]
                    best[i] = z[i] if higher else best[i]
        else:
            for i in range(m):
                level[i] = min(uniform[start + i], BELOW_ONE) * total[i]
                level[i] = min(level[i], total[i] * BELOW_ONE)
                best[i], taken[i] = ZERO, 0
            for c in range(n_choices):
                e = exponential[c]
                for i in range(m):
                    best[i] += e[i]
                    taken[i] += np.int32(1) if best[i] <= level[i] else np.int32(0)
        for i in range(m):
            choice[start + i] = taken[i]
            log_prob[start + i] = logits[taken[i], start + i] - math.log(total[i])
    return choice, log_prob


@compiled
def categorical(logits, bias, bits, choice, probability, mean, log_prob) -> float:
    """Adds log p of each row's choice to `log_prob`, float32 (>= n,), and returns the sum of the entropies.

    With z = logit - max, S = sum of exp(z) over legal choices, mean = sum of p z:

        log p(choice) = z_choice - log S        entropy = log S - mean

    Args:
        logits: float32 (C, >= n), to which bias (C,) is yet to be added; replaced by z, and LOWEST where not legal.
        bits: int64 (>= n,).  choice: int64 (n,).
        probability, mean: float32 (C, >= n) and (>= n,), written for `categorical_gradient`.
    """
    n_choices, n, entropy = logits.shape[0], choice.size, 0.0
    total, best, average = np.empty(TILE, f32), np.empty(TILE, f32), np.empty(TILE, f32)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        _softmax(logits, bias, bits[start : start + m], start, probability, start, total, best)
        for i in range(m):
            average[i] = ZERO
        for c in range(n_choices):
            z, e = logits[c, start : start + m], probability[c, start : start + m]
            for i in range(m):
                average[i] += e[i] * z[i]
        for i in range(m):
            log_total = f32(math.log(total[i]))
            best[i] = ONE / total[i]
            mean[start + i] = average[i] * best[i]
            log_prob[start + i] += logits[choice[start + i], start + i] - log_total
            entropy += log_total - average[i] * best[i]
        for c in range(n_choices):
            e = probability[c, start : start + m]
            for i in range(m):
                e[i] *= best[i]
    return entropy


@inlined
def _softmax(logits, bias, bits, start, exponential, first, total, best):
    """Replaces logits by z = logit + bias - max (LOWEST where not legal), writes e^z (0 there) and its sum.

    Args:
        logits: (C, n), of whose columns those from `start` on are those of `bits` (m,).
        exponential: (C, >= m), of whose columns those from `first` on are written.
        total, best: (>= m,), written: the sum, and the largest logit.
    """
    m = bits.size
    word = np.empty((2, m), np.uint32)
    for i in range(m):
        word[0, i], word[1, i] = bits[i] & 0xFFFFFFFF, bits[i] >> 32
        best[i], total[i] = LOWEST, ZERO
    for c in range(logits.shape[0]):
        z, legal, flag, more = logits[c, start : start + m], word[c >> 5], np.uint32(1 << (c & 31)), bias[c]
        for i in range(m):
            z[i] = z[i] + more if legal[i] & flag else LOWEST
            best[i] = max(best[i], z[i])
    for c in range(logits.shape[0]):
        z, e = logits[c, start : start + m], exponential[c, first : first + m]
        for i in range(m):
            legal, x = z[i] > LOWEST, z[i] - best[i]
            z[i] = x if legal else LOWEST
            e[i] = exp(x) if legal else ZERO
            total[i] += e[i]


@compiled
def categorical_gradient(z, probability, mean, choice, by_log_prob, by_entropy, by_bias):
    """Replaces z by the gradient of the loss by the logits, from its gradients by log p (>= n,) and by the entropy.

    Adds its sum over rows to `by_bias` (C,). Columns of z (C, >= n) without a choice (n,) become 0.

    d log p(choice) / d logit_c = [c = choice] - p_c        d entropy / d logit_c = - p_c (z_c - mean)
    """
    n_choices, n = z.shape[0], choice.size
    taken, sums = np.empty(TILE, np.int32), np.zeros((n_choices, TILE), f32)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        slope, average = by_log_prob[start : start + m], mean[start : start + m]
        for i in range(m):
            taken[i] = choice[start + i]
        for c in range(n_choices):
            row, p, number = z[c, start : start + m], probability[c, start : start + m], np.int32(c)
            total = sums[c]
            for i in range(m):
                own = slope[i] if taken[i] == number else ZERO
                row[i] = own - p[i] * (slope[i] + by_entropy * (row[i] - average[i]))
                total[i] += row[i]
    for c in range(n_choices):
        total, half = sums[c], TILE // 2
        while half:
            for i in range(half):
                total[i] += total[half + i]
            half //= 2
        by_bias[c] += total[0]
        for i in range(n, z.shape[1]):
            z[c, i] = ZERO


@compiled
def policy_loss(log_prob, old_log_prob, advantage, clip, weight, by_log_prob) -> np.ndarray:
    """PPO's clipped loss (see `losses.clipped_objective`), summed over rows, and its gradient by log p.

    Args:
        log_prob, old_log_prob, advantage: float32 (n,).
        weight: of a row's loss in the gradient, 1 / rows of the minibatch.
        by_log_prob: float32 (n,), written.

    Returns:
        float64 (3,): sums of the loss, of the KL estimate, and of clipped rows.
    """
    # float() would stay single, and then free and held differ by rounding where they are the same
    loss, kl, clipped = 0.0, 0.0, 0.0
    for i in range(log_prob.size):
        change = np.float64(log_prob[i]) - np.float64(old_log_prob[i])
        ratio, gain = math.exp(change), np.float64(advantage[i])
        free = ratio * gain
        held = min(max(ratio, 1 - clip), 1 + clip) * gain
        loss -= min(free, held)
        kl += ratio - 1 - change
        clipped += abs(ratio - 1) > clip
        by_log_prob[i] = -weight * free if free <= held else 0.0
    return np.array([loss, kl, clipped])


@compiled
def likelihood_loss(log_prob, gain, weight, by_log_prob) -> np.ndarray:
    """- gain * log p (`losses.likelihood`), summed over rows, and its gradient by log p; arguments of `policy_loss`."""
    loss = 0.0
    for i in range(log_prob.size):
        loss -= np.float64(gain[i]) * np.float64(log_prob[i])
        by_log_prob[i] = -weight * np.float64(gain[i])
    return np.array([loss, 0.0, 0.0])


@compiled
def value_loss(value, old_value, target, clip, weight, by_value) -> float:
    """Half the squared error (see `losses.squared_error`; clip < 0 for none), summed, and its gradient by the value."""
    loss = 0.0
    for i in range(value.size):
        error = np.float64(value[i]) - np.float64(target[i])
        worst, slope = error * error, error
        if clip >= 0:
            moved = np.float64(value[i]) - np.float64(old_value[i])
            held = np.float64(old_value[i]) + min(max(moved, -clip), clip) - np.float64(target[i])
            if held * held > worst:
                worst = held * held
                slope = error if abs(moved) <= clip else np.float64(0)
        loss += 0.5 * worst
        by_value[i] = weight * slope
    return loss


@compiled
def given(features, embedding, choice, out):
    """Writes out[i] = tanh(features[i] + embedding[choice[i]]), float32 (>= n, H), and 0 beyond the n choices."""
    for i in range(choice.size):
        row = embedding[choice[i]]
        for j in range(out.shape[1]):
            out[i, j] = tanh(features[i, j] + row[j])
    out[choice.size :] = ZERO


@compiled
def given_gradient(gradient, out, choice, by_embedding, by_features):
    """Adds, from the gradient by `given`'s output (>= n, H), those by its embedding and by its features (>= n, H)."""
    for i in range(choice.size):
        row = by_embedding[choice[i]]
        for j in range(out.shape[1]):
            g = gradient[i, j] * (ONE - out[i, j] * out[i, j])
            by_features[i, j] += g
            row[j] += g


@compiled
def tanh_gradient(gradient, out, by_bias):
    """Turns the gradient by tanh's output, in place, into that by its input; adds its sum over rows to `by_bias`."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            g = gradient[i, j] * (ONE - out[i, j] * out[i, j])
            gradient[i, j] = g
            by_bias[j] += g


@compiled
def relu_gradient(gradient, out, by_bias):
    """The same for max(x, 0)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            g = gradient[i, j] if out[i, j] > 0 else ZERO
            gradient[i, j] = g
            by_bias[j] += g


@compiled
def minibatch(order, rows, bits, action, log_prob, advantage, n_quantities, n_prices):
    """Gathers the decisions `order` (n,) of a minibatch, the offers first.

    Returns:
        (number of offers, rows int64 (n,), bits (4, n), choices (4, n) of operation, lead, price and quantity,
        log_prob (n,), advantage (n,)); the last three factors mean something for offers only.
    """
    n = order.size
    n_offers = 0
    for k in order:
        n_offers += action[k] >= 3
    row = np.empty(n, np.int64)
    legal, choice = np.empty((4, n), np.int64), np.empty((4, n), np.int64)
    old, gain = np.empty(n, f32), np.empty(n, f32)
    offer, other = 0, n_offers
    for k in order:
        a = action[k]
        if a >= 3:
            i, cell, price = offer, (a - 3) // n_prices, (a - 3) % n_prices
            offer += 1
            choice[0, i], choice[1, i] = 3, cell // n_quantities
            choice[2, i], choice[3, i] = price, cell % n_quantities
        else:
            i = other
            other += 1
            choice[0, i], choice[1, i], choice[2, i], choice[3, i] = a, 0, 0, 0
        row[i], old[i], gain[i] = rows[k], log_prob[k], advantage[k]
        for f in range(4):
            legal[f, i] = bits[k, f]
    return n_offers, row, legal, choice, old, gain


@compiled
def remember(streams, cell, there, new_key, new_value, key, value):
    """Writes the keys and values (n, m, d) of new tokens into cells int64 (n, m) of streams (n,), where bool `there`.

    Args:
        key: float32 (S, d, C), cells last.  value: float32 (S, C, d).
    """
    for i in range(len(streams)):
        for j in range(cell.shape[1]):
            if there[i, j]:
                for d in range(new_key.shape[2]):
                    key[streams[i], d, cell[i, j]] = new_key[i, j, d]
                    value[streams[i], cell[i, j], d] = new_value[i, j, d]


@compiled
def attend(query, key, value, position, streams, asking, nearness, per_step, out):
    """Writes what tokens find in the cells of their streams (`transformer.Block.read`), 0 where they see none.

        out = sum_c softmax_c(query . key_c / sqrt(d / H) + nearness[steps ago]) value_c, for each head on its own
        columns, over cells at or before the token's position and fewer steps ago than nearness has.

    Args:
        query, out: float32 (n, m, d).  key: float32 (S, d, C).  value: float32 (S, C, d).
        position: int64 (S, C), of what a cell holds.  streams: int64 (n,).  asking: int64 (n, m), positions.
        nearness: float32 (H, context).  per_step: positions of a step.
    """
    heads, context = nearness.shape
    n_cells, width = position.shape[1], query.shape[2] // heads
    scale, ago = f32(1 / math.sqrt(width)), np.empty(n_cells, np.int64)
    weight, found = np.empty(n_cells, np.float32), np.empty(width, np.float32)
    for i in range(len(streams)):
        stream = streams[i]
        for j in range(asking.shape[1]):
            now = asking[i, j]
            for c in range(n_cells):
                ago[c] = now // per_step - position[stream, c] // per_step
                if position[stream, c] > now or ago[c] >= context:
                    ago[c] = -1
            for h in range(heads):
                weight[:] = ZERO
                for d in range(h * width, (h + 1) * width):
                    asked, row = query[i, j, d] * scale, key[stream, d]
                    for c in range(n_cells):
                        weight[c] += asked * row[c]
                best, total = LOWEST, ZERO
                for c in range(n_cells):
                    weight[c] = weight[c] + nearness[h, ago[c]] if ago[c] >= 0 else LOWEST
                    best = max(best, weight[c])
                for c in range(n_cells):
                    weight[c] = exp(weight[c] - best) if ago[c] >= 0 else ZERO
                for c in range(n_cells):
                    total += weight[c]
                share = ONE / total if total > ZERO else ZERO
                found[:] = ZERO
                for c in range(n_cells):
                    row = value[stream, c, h * width : (h + 1) * width]
                    for d in range(width):
                        found[d] += weight[c] * row[d]
                for d in range(width):
                    out[i, j, h * width + d] = found[d] * share
