#!/usr/bin/env python3
"""What docs/SIGNAL.md says of the detector, computed anew from the features of the increments that it was measured on: they are kept in
tests/bench/signal_features.csv.gz (signal_roc.py made it). A change of the detector that raises alarms or loses encryptors shows here."""
import os
import sys

SOURCE = os.path.abspath(os.environ.get("FAR_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(SOURCE, "tests/bench"))
sys.path.insert(0, os.path.join(SOURCE, "tests/lib"))
os.environ["FAR_BUILD"] = os.path.abspath(os.environ.get("FAR_BUILD") or os.getcwd())
import signal_roc  # noqa: E402
import tap  # noqa: E402

FEATURES = os.path.join(SOURCE, "tests/bench/signal_features.csv.gz")
rows = signal_roc.scores([FEATURES])


def all_loads_and_encryptors_are_there():
    kinds = {signal_roc.kind_of(row[0]) for row in rows if row[2] == "benign"}
    assert set(signal_roc.SEEN + signal_roc.UNSEEN) <= kinds, kinds
    assert set(signal_roc.attacks(rows, 1)) == set(signal_roc.ENCRYPTORS + signal_roc.ENCRYPTORS_UNSEEN)


def there_is_at_most_one_alarm_in_10000_benign_increments():
    count, alarms, most = signal_roc.benign_table(rows, 1)
    print("# %d benign increments, %d alarms, highest score %d" % (sum(count.values()), sum(alarms.values()), max(most.values())))
    assert sum(count.values()) >= 10000
    assert sum(alarms.values()) * 10000 <= sum(count.values()), alarms


def the_encryptors_are_found():
    for label, chains in sorted(signal_roc.attacks(rows, 1).items()):
        found = sum(max(chain) >= signal_roc.ALERT for chain in chains)
        print("# %s: %d of %d" % (label, found, len(chains)))
        least = {"base64": 0, "slow": 0, "slow-rename": 0.5}.get(label, 0.8)  # what docs/SIGNAL.md says each is hard at
        assert found >= least * len(chains), label


if __name__ == "__main__":
    tap.run_all([all_loads_and_encryptors_are_there, there_is_at_most_one_alarm_in_10000_benign_increments, the_encryptors_are_found])
