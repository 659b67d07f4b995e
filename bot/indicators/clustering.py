"""One-dimensional k-means with three clusters (worst, average, best), seeded at the quartiles.

It works on sorted values, where a cluster is a range between two cuts and its mean a difference of running sums; the
order of the previous call is kept, so sorting is cheap. Where a value is so close to a cut that rounding or the tie
rule could decide, plain k-means runs instead (`cluster_plain`): both give the same members. Starting from the last
centres would be faster still, but wrong: it converges to other clusters.

Source: open indicators 2.3; TradingView compares with a tolerance of 1e-10 and takes the first of equally near centres.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel, record

CAPACITY = 41  # values
PASSES = 1001  # maximum number of k-means iterations, as in the original; real performances converge in five
TOLERANCE = 1e-10

QUARTILES = np.dtype([("count", "i8"), ("slot", "i8", 3), ("weight", "f8", 3)])
CLUSTERS = np.dtype(
    [
        ("value", "f8", CAPACITY),
        ("order", "i8", CAPACITY),  # indices of the values in ascending order
        ("sorted", "f8", CAPACITY),
        ("running", "f8", CAPACITY + 1),  # running[k] = sum of the k lowest
        ("member", "i8", CAPACITY),  # cluster of each value: 0 low, 1 middle, 2 high
        ("centre", "f8", 3),  # of plain k-means
        ("plain_runs", "i8"),  # number of runs of plain k-means
    ]
)


def quartiles_of(count: int) -> np.record:
    """Return the positions of the quartiles of `count` values: the k-th of n is the (k - 0.5)/n quantile (Hazen)."""
    out: np.record = record(QUARTILES)
    out.count = count
    for i, percent in enumerate((25, 50, 75)):
        position = min(max(percent / 100 * count - 0.5, 0.0), count - 1.0)
        out.slot[i] = int(position)
        out.weight[i] = position - int(position)
    return out


def clusters_reset(clusters) -> None:
    """Reset a CLUSTERS record to its initial state, all values 0."""
    clusters.value[:] = 0.0
    clusters.order[:] = np.arange(CAPACITY)
    clusters.sorted[:] = 0.0
    clusters.running[:] = 0.0
    clusters.member[:] = 0
    clusters.centre[:] = math.nan
    clusters.plain_runs = 0


@kernel
def sort_values(clusters, count: int) -> None:
    """Update the stored order of the first `count` values by insertion sort and compute the running sums.

    `clusters`: CLUSTERS record; values float64 (unit of the performances), none may be NaN.
    """
    total = 0.0
    for i in range(count):
        factor = clusters.order[i]
        value = clusters.value[factor]
        j = i
        while j > 0 and clusters.sorted[j - 1] > value:
            clusters.sorted[j] = clusters.sorted[j - 1]
            clusters.order[j] = clusters.order[j - 1]
            j -= 1
        clusters.sorted[j] = value
        clusters.order[j] = factor
    for i in range(count):
        total += clusters.sorted[i]
        clusters.running[i + 1] = total


@kernel
def quartile(clusters, quartiles, which: int) -> float:
    """Return a quartile of the sorted values (float64): `which` 0, 1, 2 for 25, 50, 75 %.

    `clusters`, `quartiles`: CLUSTERS and QUARTILES records; no NaN for finite values. Source: open indicators 2.3
    (Hazen quantile).
    """
    slot = quartiles.slot[which]
    weight = quartiles.weight[which]
    if weight == 0.0:
        return clusters.sorted[slot]
    return clusters.sorted[slot] * (1.0 - weight) + clusters.sorted[slot + 1] * weight


@kernel
def cut_after(clusters, cut: float, start: int, count: int, margin: float) -> int:
    """Return the number of sorted values below `cut`, searching from `start`; -1 if one lies within `margin` of it.

    Source: open indicators 2.3 (cluster boundary).

    Parameters
    ----------
    clusters
        CLUSTERS record, values without NaN.
    cut, margin
        In the unit of the values.
    start, count
        First guess, and number of values.
    """
    i = start
    while i > 0 and clusters.sorted[i - 1] > cut:
        i -= 1
    while i < count and clusters.sorted[i] <= cut:
        i += 1
    if i > 0 and cut - clusters.sorted[i - 1] < margin:
        return -1
    if i < count and clusters.sorted[i] - cut < margin:
        return -1
    return i


@kernel
def cluster_sorted(clusters, quartiles) -> bool:
    """Split the sorted values into clusters; return false where a tie is so close that plain k-means must decide.

    `clusters`, `quartiles`: CLUSTERS and QUARTILES records; writes `member` (0, 1, 2) of each value, finite input only.
    Source: open indicators 2.3.
    """
    count = quartiles.count
    margin = 1e-9 + 1e-11 * max(abs(clusters.sorted[0]), abs(clusters.sorted[count - 1]))
    low = quartile(clusters, quartiles, 0)
    middle = quartile(clusters, quartiles, 1)
    high = quartile(clusters, quartiles, 2)
    first = quartiles.slot[0] + 1
    second = quartiles.slot[2]
    for step in range(PASSES):
        if middle - low < margin or high - middle < margin:
            return False
        new_first = cut_after(clusters, 0.5 * (low + middle), first, count, margin)
        new_second = cut_after(clusters, 0.5 * (middle + high), second, count, margin)
        if new_first <= 0 or new_second <= new_first or new_second >= count:  # too close to a cut, or an empty cluster
            return False
        if step > 0 and new_first == first and new_second == second:
            break
        first = new_first
        second = new_second
        low = clusters.running[first] / first
        middle = (clusters.running[second] - clusters.running[first]) / (second - first)
        high = (clusters.running[count] - clusters.running[second]) / (count - second)
    for i in range(count):
        clusters.member[clusters.order[i]] = 0 if i < first else (1 if i < second else 2)
    return True


@kernel
def nearest(clusters, value: float) -> int:
    """Return the index (0 to 2) of the centre nearest to `value` (float64); the first of equally near ones.

    `clusters`: CLUSTERS record; NaN centres are ignored. Source: open indicators 2.3.
    """
    best = math.inf
    for i in range(3):
        distance = abs(value - clusters.centre[i])
        if distance < best:  # an empty cluster's centre is NaN, which is never nearer
            best = distance
    for i in range(3):
        if abs(value - clusters.centre[i]) - best <= TOLERANCE:
            return i
    return 0


@outlined_kernel
def cluster_plain(clusters, quartiles) -> None:
    """Split the values by plain k-means: assign to the nearest centre, recompute means, until nothing changes.

    `clusters`, `quartiles`: CLUSTERS and QUARTILES records; writes `member` and `centre` (float64, NaN of an empty
    cluster). Source: open indicators 2.3.
    """
    count = quartiles.count
    for i in range(3):
        clusters.centre[i] = quartile(clusters, quartiles, i)
    for _ in range(PASSES):
        for k in range(count):
            clusters.member[k] = nearest(clusters, clusters.value[k])
        same = True
        for i in range(3):
            mean = cluster_mean(clusters, quartiles, i)
            if abs(mean - clusters.centre[i]) > TOLERANCE or math.isnan(mean) != math.isnan(clusters.centre[i]):
                same = False
            clusters.centre[i] = mean
        if same:
            break


@kernel
def cluster_mean(clusters, quartiles, which: int) -> float:
    """Return the mean (float64) of the members of cluster `which` (0 to 2); NaN if it is empty."""
    total = 0.0
    members = 0.0
    for k in range(quartiles.count):
        share = 1.0 if clusters.member[k] == which else 0.0
        total += share * clusters.value[k]
        members += share
    return total / members if members > 0.0 else math.nan


@kernel
def cluster(clusters, quartiles) -> None:
    """Split the values into three clusters: `member` holds the cluster (0 low, 1 middle, 2 high) of each value.

    `clusters`, `quartiles`: CLUSTERS and QUARTILES records; finite values only. Source: open indicators 2.3.
    """
    sort_values(clusters, quartiles.count)
    if not cluster_sorted(clusters, quartiles):
        clusters.plain_runs += 1
        cluster_plain(clusters, quartiles)
