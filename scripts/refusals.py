"""The measuring part of scripts/refusals: `refusals.py RINGWAY COUNT`. Not a test: it judges nothing."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

RINGWAY, COUNT = sys.argv[1], int(sys.argv[2])
PATIENCE = 20


def serve(listener):
    """Accepts and ends when the client does."""
    def end(peer):
        with peer:
            while peer.recv(100):
                pass
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=end, args=(peer,), daemon=True).start()


def start(place, over, limit, backend):
    config = place / "ringway.yaml"
    config.write_text(
        f'workers: 1\nlisteners: {{l: {{bind: "127.0.0.1:0", pool: p, limits: {{connections: {limit}, over: {over}}}}}}}\n'
        f'pools: {{p: {{backends: [{{address: "{backend[0]}:{backend[1]}"}}], health_check: off}}}}\n'
        f'admin: {{bind: "unix:{place}/admin.sock"}}\n'
    )
    log = place / "log"
    child = subprocess.Popen([RINGWAY, "run", "-c", str(config)], stderr=log.open("w"))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = re.search(r'listener="?l"?.* address="?127\.0\.0\.1:(\d+)', log.read_text())
        if found:
            return child, ("127.0.0.1", int(found[1]))
        time.sleep(0.05)
    child.kill()
    sys.exit(log.read_text())


def cpu_us(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def one(address, is_refused):
    """From the connect to the end of it, in seconds."""
    begun = time.monotonic()
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(address)
            if is_refused:
                client.recv(1)
        except ConnectionResetError:
            pass
    return time.monotonic() - begun


def measure(name, over, limit):
    place = pathlib.Path(tempfile.mkdtemp())
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    child, address = start(place, over, limit, listener.getsockname())
    # Who takes the only place.
    holder = socket.create_connection(address) if limit == 1 else None
    time.sleep(0.2)
    counted = place / "perf"
    perf = None
    if shutil.which("perf"):
        count = ["perf", "stat", "-x,", "-o", str(counted), "-e", "raw_syscalls:sys_enter", "-p", str(child.pid)]
        perf = subprocess.Popen(count, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
    before = cpu_us(child.pid)
    waits = sorted(one(address, limit == 1) for _ in range(COUNT))
    time.sleep(0.2)
    spent = cpu_us(child.pid) - before
    calls = "not counted"
    if perf:
        perf.send_signal(2)
        perf.wait()
        found = re.search(r"^(\d+),,raw_syscalls", counted.read_text(), re.M)
        calls = f"{int(found[1]) / COUNT:.2f}" if found else calls
    at = lambda share: waits[min(COUNT - 1, int(COUNT * share))] * 1000
    print(
        f"refusals: {name}: {calls} system calls and {spent / COUNT:.1f} us of CPU each; "
        f"over after p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, max {waits[-1] * 1000:.2f} ms"
    )
    if holder:
        holder.close()
    child.terminate()
    child.wait(PATIENCE)
    shutil.rmtree(place)


with open("/proc/loadavg", encoding="ascii") as loadavg:
    print(f"refusals: {COUNT} of each, one after the other, load {loadavg.read().split()[0]}")
measure("refused, reset", "reset", 1)
measure("refused, close", "close", 1)
measure("relayed", "reset", 900)
