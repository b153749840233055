#!/usr/bin/env python3
"""A line between two network namespaces: rate, delay, loss and a queue, over two TUN devices.

Needs root. Says `ready PID_NEAR PID_FAR` once both ends are there: processes that hold the
namespaces, 10.77.0.1 near and 10.77.0.2 far; near, `localhost` is the far end. Ends with its
standard input.
"""

import argparse
import collections
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def hold(hosts):
    script = "mount --bind \"$0\" /etc/hosts; echo held; exec sleep infinity"
    child = subprocess.Popen(
        ["unshare", "-n", "-m", "sh", "-ec", script, hosts], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n", "no namespaces"
    return child


def join(pid, name, own, other, mtu):
    subprocess.run(["ip", "link", "set", name, "netns", str(pid)], check=True)
    script = f"""ip link set lo up; ip link set {name} mtu {mtu} txqueuelen 10000 up
        ip addr add {own} peer {other} dev {name}
        # What every kernel has, and the most shy of loss.
        echo reno > /proc/sys/net/ipv4/tcp_congestion_control"""
    subprocess.run(["nsenter", "-t", str(pid), "-n", "sh", "-ec", script], check=True)


class Way:
    """One direction of the line."""

    def __init__(self, into, out, asked, seed):
        self.into, self.out, self.asked = into, out, asked
        self.dice = random.Random(seed)
        self.free_at = 0.0
        self.flying = collections.deque()

    def take(self, now):
        for _ in range(64):
            try:
                packet = os.read(self.into, 65536)
            except BlockingIOError:
                return
            waiting = max(self.free_at - now, 0.0)
            if waiting * self.asked.rate > self.asked.queue:
                continue
            self.free_at = now + waiting + len(packet) / self.asked.rate
            if self.dice.random() >= self.asked.loss:
                self.flying.append((self.free_at + self.asked.delay, packet))

    def give(self, now):
        while self.flying and self.flying[0][0] <= now:
            try:
                os.write(self.out, self.flying.popleft()[1])
            except OSError:
                pass  # the far end went away, or its queue is full: a packet is lost


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, required=True, help="bytes a second, each way")
    parser.add_argument("--delay", type=float, required=True, help="seconds, each way")
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--mtu", type=int, default=1500)
    parser.add_argument("--queue", type=float, required=True, help="bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", required=True)
    asked = parser.parse_args()
    hosts = os.path.join(asked.directory, "hosts")
    with open(hosts, "w", encoding="utf-8") as file:
        file.write("10.77.0.2 localhost\n")
    near, far = hold(hosts), hold("/etc/hosts")
    try:
        names = [f"dfn{os.getpid()}"[:15], f"dff{os.getpid()}"[:15]]
        ends = [tun(name) for name in names]
        join(near.pid, names[0], "10.77.0.1", "10.77.0.2", asked.mtu)
        join(far.pid, names[1], "10.77.0.2", "10.77.0.1", asked.mtu)
        print(f"ready {near.pid} {far.pid}", flush=True)
        carry([Way(ends[0], ends[1], asked, asked.seed), Way(ends[1], ends[0], asked, -asked.seed)])
    finally:
        near.kill()
        far.kill()


def carry(ways):
    while True:
        due = [way.flying[0][0] for way in ways if way.flying]
        wait = max(min(due) - time.monotonic(), 0.0) if due else 1.0
        readable, _, _ = select.select([sys.stdin] + [way.into for way in ways], [], [], wait)
        if sys.stdin in readable:
            return
        now = time.monotonic()
        for way in ways:
            if way.into in readable:
                way.take(now)
            way.give(time.monotonic())


if __name__ == "__main__":
    main()
