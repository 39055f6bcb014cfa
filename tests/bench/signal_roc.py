#!/usr/bin/env python3
"""What the detector makes of the features that bench_signal.py kept.

    signal_roc.py keep OUT.csv.gz CSV ...   those of one cycle an increment, without what can have no evidence: small enough for the tree
    signal_roc.py show CSV|CSV.GZ ...       tables of false alarms and detections, in Markdown
    signal_roc.py draw OUT.svg CSV|CSV.GZ ...

A line is chain,label,step,span,features; of an increment without any evidence the features are `0`."""
import collections
import gzip
import os
import subprocess
import sys

BUILD = os.environ.get("FAR_BUILD", "build/mine")
LAB = BUILD + "/tests/bench/signal_lab"
ALERT = 500
SEEN = ["compiling", "unpacking", "database", "video", "defragmenting"]
UNSEEN = ["log-rotation", "encrypted-guest", "mail-spool", "web-cache", "git-server"]
ENCRYPTORS = ["in-place", "rename", "partial", "slow-rename"]
ENCRYPTORS_UNSEEN = ["intermittent", "slow", "woven", "base64"]
EVIDENCE = ["bare_on_zero_runs", "bare_on_structured_runs", "bare_on_dense_runs", "bare_on_head_runs", "cut_on_head_runs",
            "tails_kept_runs", "woven_pages"]


def names():
    return subprocess.run([LAB, "names"], check=True, capture_output=True, text=True).stdout.split()


def read(paths):
    """{(chain, span, offset): [(label, step, features)]}, each an own history: of longer spans every span-th."""
    chains = collections.defaultdict(list)
    for path in paths:
        with gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="ascii") as lines:
            for line in lines:
                parts = line.strip().split(",")
                if len(parts) == 5 and (parts[4] == "0" or " " in parts[4]):
                    chain, label, step, span, features = parts
                    chains[chain, int(span), int(step) % int(span)].append((label, int(step), features))
    return chains


def scores(paths):
    """[(chain, span, label, step, score)]"""
    zero = " ".join("0" for _ in names())
    rows, lines = [], []
    for (chain, span, offset), increments in read(paths).items():
        for label, step, features in increments:
            rows.append((chain, span, label, step))
            lines.append(f"{chain}@{span}.{offset} {zero if features == '0' else features}\n")
    done = subprocess.run([LAB, "score"], input="".join(lines), check=True, capture_output=True, text=True)
    return [(*row, int(line.split()[1])) for row, line in zip(rows, done.stdout.split("\n"))]


def keep(out, paths):
    places = [names().index(name) for name in EVIDENCE]
    with gzip.GzipFile(out, "wb", mtime=0) as file:
        for (chain, span, _), increments in sorted(read(paths).items()):
            for label, step, features in increments if span == 1 else []:
                values = features.split()
                nothing = label == "benign" and all(values[place] == "0" for place in places)
                file.write(f"{chain},{label},{step},1,{'0' if nothing else features}\n".encode())


def kind_of(chain):
    kind = chain.split("/")[0]
    return kind if kind in SEEN + UNSEEN else "office beside an encryptor, before it"


def upper(false, of):
    """95 % bound of a rate of which `false` of `of` were seen (Clopper-Pearson, by bisection)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle, term, below = (low + high) / 2, 0.0, 0.0
        term = (1 - middle) ** of
        for k in range(false + 1):
            below += term
            term = term * (of - k) / (k + 1) * middle / (1 - middle) if middle < 1 else 0
        low, high = (middle, high) if below > 0.05 else (low, middle)
    return high


def benign_table(rows, span):
    count, alarms, most = collections.Counter(), collections.Counter(), collections.Counter()
    for chain, of_span, label, _, score in rows:
        if label == "benign" and of_span == span:
            kind = kind_of(chain)
            count[kind] += 1
            alarms[kind] += score >= ALERT
            most[kind] = max(most[kind], score)
    return count, alarms, most


def attacks(rows, span):
    """{encryptor: [scores of the increments of one attack]}"""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for chain, of_span, label, _, score in rows:
        if label != "benign" and of_span == span:
            found[label][chain].append(score)
    return {label: list(chains.values()) for label, chains in found.items()}


def show(paths):
    rows = scores(paths)
    for span in sorted({row[1] for row in rows}):
        count, alarms, most = benign_table(rows, span)
        of, false = sum(count.values()), sum(alarms.values())
        print(f"\nIncrements of {span} cycle(s):\n\n| load | tuned on | increments | alarms | highest score |\n|---|---|---|---|---|")
        for kind in sorted(count, key=lambda k: (k in UNSEEN, k)):
            print(f"| {kind} | {'never seen' if kind in UNSEEN else 'yes'} | {count[kind]} | {alarms[kind]} | {most[kind]} |")
        print(f"| all | | {of} | {false} (95 % bound {upper(false, of) * 10000:.1f} in 10,000) | {max(most.values())} |")
        print("\n| encryptor | tuned on | attacks | found | after increments (median) | increments found |\n|---|---|---|---|---|---|")
        for label, chains in sorted(attacks(rows, span).items(), key=lambda each: (each[0] in ENCRYPTORS_UNSEEN, each[0])):
            after = sorted(next(i + 1 for i, s in enumerate(chain) if s >= ALERT) for chain in chains if max(chain) >= ALERT)
            increments = [score for chain in chains for score in chain]
            print(f"| {label} | {'never seen' if label in ENCRYPTORS_UNSEEN else 'yes'} | {len(chains)} | {len(after)} | "
                  f"{after[len(after) // 2] if after else '-'} | {sum(s >= ALERT for s in increments)} of {len(increments)} |")


def curve(rows):
    """For thresholds: rate of alarms on benign increments, and of attacks found, by encryptor."""
    benign = [row[4] for row in rows if row[1] == 1 and row[2] == "benign"]
    found = attacks(rows, 1)
    points = {label: [] for label in found}
    for threshold in range(1000, 0, -5):
        rate = sum(score >= threshold for score in benign) / len(benign)
        for label, chains in found.items():
            points[label].append((rate, sum(max(chain) >= threshold for chain in chains) / len(chains), threshold))
    return points, len(benign)


def draw(out, paths):
    import math
    points, count = curve(scores(paths))
    width, height, left, top = 640, 400, 60, 20
    colors = ["#0b5", "#06c", "#c30", "#909", "#f80", "#088", "#555", "#b58"]

    def x(rate):
        return left + width * (math.log10(max(rate, 3e-5)) + 4.523) / 4.523

    def y(rate):
        return top + height * (1 - rate)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="480" font-family="sans-serif" font-size="12">',
             '<rect width="860" height="480" fill="#fff"/>']
    for exponent in range(-4, 1):
        lines.append(f'<path d="M{x(10 ** exponent):.0f} {top}v{height}" stroke="#ddd"/><text x="{x(10 ** exponent) - 12:.0f}" '
                     f'y="{top + height + 18}">1e{exponent}</text>')
    for tenth in range(0, 11, 2):
        lines.append(f'<path d="M{left} {y(tenth / 10):.0f}h{width}" stroke="#ddd"/>'
                     f'<text x="24" y="{y(tenth / 10) + 4:.0f}">{tenth / 10}</text>')
    for (label, curve_points), color in zip(sorted(points.items()), colors):
        path = " ".join(f"{'M' if i == 0 else 'L'}{x(rate):.1f} {y(share):.1f}" for i, (rate, share, _) in enumerate(curve_points))
        at = next(p for p in curve_points if p[2] == ALERT)
        row = sorted(points).index(label)
        dash = ' stroke-dasharray="6 3"' if label in ENCRYPTORS_UNSEEN else ""
        lines.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>'
                     f'<circle cx="{x(at[0]):.1f}" cy="{y(at[1]):.1f}" r="4" fill="{color}"/><text x="715" y="{40 + 18 * row}" fill="{color}">{label}</text>')
    lines.append(f'<text x="190" y="{top + height + 40}">share of {count} benign increments with an alarm (left edge: none)</text>'
                 f'<text x="715" y="200">dashed: never seen</text><text x="715" y="218">dot: the default, {ALERT}</text></svg>')
    with open(out, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 3 and sys.argv[1] == "keep":
        keep(sys.argv[2], sys.argv[3:])
    elif len(sys.argv) > 2 and sys.argv[1] == "show":
        show(sys.argv[2:])
    elif len(sys.argv) > 3 and sys.argv[1] == "draw":
        draw(sys.argv[2], sys.argv[3:])
    else:
        raise SystemExit(__doc__)
