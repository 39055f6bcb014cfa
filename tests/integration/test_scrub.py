#!/usr/bin/env python3
"""The scrub of a vault with real programs: its coverage is shown, a flipped bit is found and told with every point that needs the block.

far-timeout: 120
"""
import os

import farlib
import tap

SEED = farlib.seed_of_run()
cluster = image = target = None


def cycle():
    return cluster.get("/v1/checkpoints/%d" % cluster.replicate()["checkpoint_id"])["members"][0]["point_id"]


def scrub(*more):
    cluster.cli("vault", "scrub", "target", "--wait", *more, as_json=False)
    return cluster.get("/v1/vaults/target")


def alerts():
    return [a for a in cluster.get("/v1/alerts?limit=1000")["items"] if a["kind"] == "vault_damaged" and a["state"] != "cleared"]


def a_scrub_keeps_to_its_budget_and_shows_how_far_it_is():
    global points
    points = [cycle()]
    with open(image, "r+b") as file: # another block than the one that is damaged later
        file.seek(5 * farlib.BLOCK)
        file.write(os.urandom(farlib.BLOCK))
    points.append(cycle())
    part = scrub("--bytes", str(4 * farlib.BLOCK))
    wrong = [] if part["scrub_read_bytes"] == 4 * farlib.BLOCK and 0 < part["scrub_permille"] < 1000 else ["%r" % part]
    wrong += [] if part["scrub_proven_ms"] == 0 and part["scrub_began_ms"] > 0 else ["%r" % part]
    whole = scrub()
    wrong += [] if whole["scrub_permille"] == 1000 and whole["scrub_proven_ms"] == part["scrub_began_ms"] else ["%r" % whole]
    wrong += [] if whole["damaged_point_ids"] == [] and alerts() == [] else ["%r %r" % (whole, alerts())]
    cluster.cli("vault", "set-policy", "target", "--scrub", "1048576", as_json=False)
    set_now = cluster.get("/v1/vaults/target")
    wrong += [] if set_now["scrub_due_ms"] > 0 and set_now["policy"]["scrub_bytes_per_hour"] == 1048576 else ["%r" % set_now]
    return wrong


def a_flipped_bit_is_found_and_every_point_named_that_needs_it():
    with open(image, "rb") as file:
        begin = file.read(4096)
    wrong = [] if farlib.flip_block(os.path.join(target.dir, "vault"), begin) else ["no pack has the first block"]
    found = scrub("--bytes", "1000000000")
    damages = found["scrub_damages"]
    fits = len(damages) == 1 and damages[0]["point_id"] == points[0] and damages[0]["needed_by"] == 2
    wrong += [] if fits and damages[0]["first_block"] == 0 and ".pack" in damages[0]["text"] else ["%r" % damages]
    wrong += [] if sorted(found["damaged_point_ids"]) == points else ["%r" % found["damaged_point_ids"]]
    states = [cluster.get("/v1/points/%d" % point)["state"] for point in points]
    wrong += [] if states == ["damaged", "damaged"] else ["%r" % states]
    told = alerts()
    wrong += [] if len(told) == 1 and all(str(point) in told[0]["message"] for point in points) else ["%r" % told]
    shown = cluster.cli("vault", "show", "target", as_json=False)
    return wrong + ([] if "scrub_permille" in shown and "damaged_point_ids" in shown else [shown])


def the_next_cycle_puts_it_again_from_the_source():
    """Nothing changed at the source, and all the same the block is offered, wanted, stored: every point that needs it is good again."""
    target.kill() # nobody remembers that it was found damaged but the log
    target.start()
    cycle()
    wrong = [] if alerts() == [] else ["%r" % alerts()]
    now = cluster.get("/v1/vaults/target")
    wrong += [] if now["scrub_damages"] == [] and now["damaged_point_ids"] == [] else ["%r" % now]
    states = [cluster.get("/v1/points/%d" % point)["state"] for point in points]
    wrong += [] if states == ["available", "available"] else ["%r" % states]
    status, text = cluster.run_tool("farshore-node", "vault", "verify", "--vault", os.path.join(target.dir, "vault"), "--point",
                                    str(points[0]), check=False)
    wrong += [] if status == 0 and "good" in text else [text]
    scrub("--bytes", "1000000000") # to the end of this rotation
    again = scrub("--bytes", "1000000000")
    return wrong + ([] if again["scrub_damages"] == [] and again["scrub_permille"] == 1000 else ["%r" % again])


def what_the_source_has_changed_it_cannot_give_back():
    with open(image, "rb") as file:
        begin = file.read(4096)
    wrong = [] if farlib.flip_block(os.path.join(target.dir, "vault"), begin) else ["no pack has the first block"]
    with open(image, "r+b") as file:
        file.write(os.urandom(farlib.BLOCK))
    scrub("--bytes", "1000000000")
    wrong += [] if len(alerts()) == 1 else ["%r" % alerts()]
    new = cycle()
    told = alerts()
    wrong += [] if len(told) == 1 and cluster.get("/v1/points/%d" % new)["state"] == "available" else ["%r" % told]
    found = cluster.get("/v1/vaults/target")
    wrong += [] if len(found["scrub_damages"]) == 1 and points[0] in found["damaged_point_ids"] else ["%r" % found]
    healed = cluster.cli("events", "--from", "start", "--kind", "vault_healed", "-o", "json", as_json=False)
    return wrong + ([] if "unhealed" in healed and healed.count("vault_healed") == 2 else [healed])


def what_a_verification_found_is_put_again_as_well():
    before = cluster.get("/v1/checkpoints?limit=100")["items"][-1]["id"]
    with open(image, "rb") as file:
        begin = file.read(4096)
    wrong = [] if farlib.flip_block(os.path.join(target.dir, "vault"), begin) else ["no pack has the first block"]
    job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % before)["id"])
    point = cluster.get("/v1/checkpoints/%d" % before)["members"][0]["point_id"]
    wrong += [] if job["state"] == "failed" and cluster.get("/v1/points/%d" % point)["state"] == "damaged" else ["%r" % job]
    cycle()
    job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % before)["id"])
    wrong += [] if job["state"] == "succeeded" and cluster.get("/v1/points/%d" % point)["state"] == "available" else ["%r" % job]
    return wrong


if __name__ == "__main__":
    with farlib.Cluster(servers=("protected",)) as cluster:
        target = cluster.nodes["target"]
        image = os.path.join(cluster.base, "vm1.img")
        farlib.make_image(image, 8 * farlib.MIB, SEED)
        with open(image, "r+b") as disk:
            disk.write(os.urandom(farlib.BLOCK)) # stored as it is
        cluster.protect("vm1", [image])
        tap.run_all([a_scrub_keeps_to_its_budget_and_shows_how_far_it_is, a_flipped_bit_is_found_and_every_point_named_that_needs_it,
                     the_next_cycle_puts_it_again_from_the_source, what_the_source_has_changed_it_cannot_give_back,
                     what_a_verification_found_is_put_again_as_well])
