"""The table of success.sh: success_table.py RESULTS SERVER LEAST COUNT TROUBLE...

Reads "SERVER TROUBLE FIRST MODEL.json" (pisim's summaries), prints a Markdown table and why Pis were
stuck, and fails if a model boots less often than LEAST asks ("MODEL TROUBLE PERCENT" lines), or if a cell is
missing."""
import collections
import glob
import json
import sys

results, server, least_file, count = sys.argv[1:5]
troubles = sys.argv[5:]
count = int(count)
least = {(model, trouble): float(percent) for model, trouble, percent in map(str.split, open(least_file))}
models = list(dict.fromkeys(model for model, _ in least))
words = {
    "clean": "clean", "loss1": "1 % loss", "loss5": "5 % loss", "loss10": "10 % loss",
    "twice5": "5 % twice", "order5": "5 % out of order", "delay": "10-20 ms each way",
}

rows = collections.defaultdict(list)
late_ms = 0
for path in glob.glob(f"{results}/{server} *.json"):
    trouble = path.rsplit("/", 1)[1].split()[1]
    summary = json.load(open(path))
    late_ms = max(late_ms, summary["late_ms"])
    for row in summary["models"]:
        rows[row["model"], trouble].append(row)

print(f"\n### {server}: of {count} boots\n")
print("| model | " + " | ".join(words.get(t, t) for t in troubles) + " |")
print("|---|" + "---|" * len(troubles))
failures, reasons = [], []
for model in models:
    cells = []
    for trouble in troubles:
        parts = rows[model, trouble]
        pis, booted = sum(p["pis"] for p in parts), sum(p["booted"] for p in parts)
        if pis != count:
            failures.append(f"{model}, {trouble}: {pis} of {count} were tried")
        if not pis:
            cells.append("-")
            continue
        rate = 100 * booted / pis
        times = [p for p in parts if p["booted"]]
        median = sorted(p["median_s"] for p in times)[len(times) // 2] if times else 0
        worst = max((p["p99_s"] for p in times), default=0)
        cells.append(f"{rate:.3g} %" + (f" ({median:.1f} s, {worst:.1f} s)" if booted else ""))
        stuck = collections.Counter()
        for part in parts:
            stuck.update(part["stuck"])
        if stuck:
            reasons.append(f"- {model}, {words.get(trouble, trouble)}: "
                           + ", ".join(f"{n} x {text}" for text, n in stuck.most_common(4)))
        if rate < least[model, trouble]:
            failures.append(f"{model}, {words.get(trouble, trouble)}: {rate:.1f} % boot, {least[model, trouble]:.3g} % must")
    print(f"| {model} | " + " | ".join(cells) + " |")
print("\nin brackets: median, 99th percentile of those that booted")
if reasons:
    print("\nstuck:\n" + "\n".join(reasons))
if late_ms > 500:
    print(f"\nthe machine was busy: the simulator was up to {late_ms:.0f} ms late")
for failure in failures:
    print("FAILED:", failure)
sys.exit(1 if failures else 0)
