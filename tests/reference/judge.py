import math

RAISES = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
STAKES = (0.10, 0.15, 0.15, 0.10, 0.10, 0.10, 0.15, 0.15)
QUANTILES = (0.50, 0.75, 0.90, 0.95, 0.99, 0.999)
SLOWER = (1.2, 1.5, 2.0, 4.0, 16.0)


def average(log_wealths):
    top = max(log_wealths)
    return top + math.log(math.fsum(math.exp(value - top) for value in log_wealths))


def raised(share, raise_):
    odds = raise_ * share / (1.0 - share)
    return odds / (1.0 + odds)


def limit_log_ratio(limit, alternative, requests, events):
    hit = math.log(alternative / limit)
    miss = math.log((1.0 - alternative) / (1.0 - limit))
    return events * hit + (requests - events) * miss


def limit_values(limit, acts):
    epochs = []
    values = []
    now = 0
    for act in acts:
        if act == "epoch":
            now += 1
            continue
        epochs.append((now, act))
        parts = [(0, 0.5)] + [(n, 0.5 / (n * (n + 1))) for n in range(1, now + 1)]
        terms = [math.log(0.5 / (now + 1))]
        for begun, part in parts:
            requests = sum(act[0] for epoch, act in epochs if epoch >= begun)
            events = sum(act[1] for epoch, act in epochs if epoch >= begun)
            for raise_, stake in zip(RAISES, STAKES):
                gain = limit_log_ratio(limit, raised(limit, raise_), requests, events)
                terms.append(math.log(part * stake) + gain)
        values.append(average(terms))
    return values


def latency_value(share, canary_requests, canary_slower, stable_requests, stable_slower):
    terms = [math.log(0.5)]
    for index, quantile in enumerate(QUANTILES):
        stable = 1.0 - quantile
        for raise_ in SLOWER:
            canary = raised(stable, raise_)
            mixed = share * canary + (1.0 - share) * stable
            terms.append(
                math.log(0.5 / (len(QUANTILES) * len(SLOWER)))
                + canary_slower[index] * math.log(canary / mixed)
                + (canary_requests - canary_slower[index]) * math.log((1.0 - canary) / (1.0 - mixed))
                + stable_slower[index] * math.log(stable / mixed)
                + (stable_requests - stable_slower[index]) * math.log((1.0 - stable) / (1.0 - mixed))
            )
    return average(terms)


LIMITS = (
    ("A1", 0.01, [(0, 0)]),
    ("A2", 0.01, [(1, 1), (1, 1), (1, 1)]),
    ("A3", 0.01, [(1000, 10), (9000, 90)]),
    ("A4", 0.01, [(1000, 5), "epoch", (1000, 20), "epoch", (1000, 20)]),
    ("A5", 0.5, [(100, 80), "epoch", (100, 40)]),
    ("A6", 0.001, [(100000, 100), (10000, 60)]),
    ("A7", 0.01, [(1000000, 10000), (1000000, 20000)]),
)

LATENCIES = (
    ("L1", 0.1, 0, (0,) * 6, 0, (0,) * 6),
    ("L2", 0.5, 500, (0,) * 6, 500, (0,) * 6),
    ("L3", 0.05, 40, (40,) * 6, 800, (800,) * 6),
    ("L4", 0.25, 400, (120, 50, 9, 3, 0, 0), 1200, (610, 305, 118, 62, 11, 1)),
    ("L5", 0.5, 5000, (2500, 1250, 500, 260, 150, 40), 5000, (2480, 1260, 510, 250, 49, 6)),
)

if __name__ == "__main__":
    for name, limit, acts in LIMITS:
        print(name, ", ".join("%.12f" % value for value in limit_values(limit, acts)))
    for name, *counts in LATENCIES:
        print(name, "%.12f" % latency_value(*counts))
